"""A model as a float32 file, to look at another file of it tensor by tensor."""
