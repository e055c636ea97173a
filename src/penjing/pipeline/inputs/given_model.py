"""The model that a run is given: an object, a Keras file, or a `.tflite` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from penjing.models.keras_private import operation_behind
from penjing.models.model_files import load_keras_model
from penjing.rebuilding.litert_loading import load_litert


def given_model(model: keras.Model | Path) -> keras.Model:
    """Load a model from a file by its ending; a model stays as it is.

    A `.tflite` file has no loss. One that ends in a softmax or a sigmoid gets that of a
    classifier, other models none.
    """
    if not isinstance(model, Path):
        return model
    if not is_litert(model):
        return load_keras_model(model)
    loaded = load_litert(model)
    loss = _loss(loaded)
    if loss is not None:
        loaded.compile("adam", loss=loss, metrics=["accuracy"])
    return loaded


def is_litert(model: Any) -> bool:
    """Whether it is the path of a file that knows no loss: labels say which."""
    return isinstance(model, Path) and model.suffix.lower() == ".tflite"


def ends_in_sigmoid(model: Any) -> bool:
    """Whether what a model gives comes out of sigmoids; False where it is not known."""
    if not getattr(model, "outputs", None):
        return False
    last: Any = operation_behind(model.outputs[0])
    if isinstance(last, keras.Model):
        return ends_in_sigmoid(last)
    return getattr(last, "activation", None) is keras.activations.sigmoid


def _loss(model: keras.Model) -> str | None:
    """The loss of what the last layer gives; None where that tells of none."""
    if len(model.outputs) != 1 or len(model.output_shape) != 2:
        return None
    if isinstance(operation_behind(model.outputs[0]), keras.layers.Softmax):
        return "sparse_categorical_crossentropy"
    is_binary = ends_in_sigmoid(model) and model.output_shape[1] == 1
    return "binary_crossentropy" if is_binary else None
