"""Keras models into deployable files, and the runtime that runs them."""
