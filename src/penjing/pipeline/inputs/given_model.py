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
    if model.suffix.lower() != ".tflite":
        return load_keras_model(model)
    loaded = load_litert(model)
    loss = _loss(loaded)
    if loss is not None:
        loaded.compile("adam", loss=loss, metrics=["accuracy"])
    return loaded


def _loss(model: keras.Model) -> str | None:
    """The loss of what the last layer gives; None where that tells of none."""
    if len(model.outputs) != 1 or len(model.output_shape) != 2:
        return None
    last: Any = operation_behind(model.outputs[0])
    if isinstance(last, keras.layers.Softmax):
        return "sparse_categorical_crossentropy"
    is_sigmoid = getattr(last, "activation", None) is keras.activations.sigmoid
    return "binary_crossentropy" if is_sigmoid and model.output_shape[1] == 1 else None
