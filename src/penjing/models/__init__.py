"""Keras models as such: copied, followed, selected, loaded from files.

Nothing here knows how a model is compressed. A graph is followed with values of any
kind in place of tensors, which serves tracing of channels, plans for activations and
copying alike. A weight is known by its path.
"""
