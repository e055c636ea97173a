"""Where a file is to run, and what cannot run there."""
