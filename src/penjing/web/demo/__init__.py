"""A page that shows a dense and a sparse file of one network side by side."""
