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

    A `.tflite` file has no loss: labels say what it is judged by.
    """
    if not isinstance(model, Path):
        return model
    return load_litert(model) if is_litert(model) else load_keras_model(model)


def is_litert(model: Any) -> bool:
    """Whether it is the path of a file that knows no loss."""
    return isinstance(model, Path) and model.suffix.lower() == ".tflite"


def ends_in_sigmoid(model: Any) -> bool:
    """Whether what a model gives comes out of sigmoids; False where it is not known."""
    if not getattr(model, "outputs", None):
        return False
    last: Any = operation_behind(model.outputs[0])
    if isinstance(last, keras.Model):
        return ends_in_sigmoid(last)
    return getattr(last, "activation", None) is keras.activations.sigmoid
