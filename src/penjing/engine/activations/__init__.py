"""Activations that are rounded while a model trains, as the kernels will round them."""
