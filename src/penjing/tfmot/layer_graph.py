"""Which models are graphs of layers."""

from __future__ import annotations

from typing import Any

import keras


def is_functional(model: Any) -> bool:
    """Whether `model` is a Keras model made of a graph of layer calls."""
    return isinstance(model, keras.Model) and hasattr(model, "operations")


def is_plain_graph(model: keras.Model) -> bool:
    """Whether cloning keeps all that a model does: no class of one's own in it."""
    if isinstance(model, keras.Sequential):
        known = type(model) is keras.Sequential
    else:
        known = is_functional(model) and type(model).__module__.startswith("keras.")
    return known and all(
        is_plain_graph(layer)
        for layer in model.layers
        if isinstance(layer, keras.Model)
    )
