"""Keras layers and models that train through weight transforms."""
