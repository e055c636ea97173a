"""A run takes a `.tflite` file as it takes a Keras file."""

from __future__ import annotations

import keras
import pytest
from tests.rebuilding.test_litert_loading import convolutions

from penjing.pipeline.inputs.given_model import given_model

pytestmark = pytest.mark.once


def test_a_classifiers_file_comes_with_its_loss(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(convolutions())
    model = given_model(path)
    assert model.loss == "sparse_categorical_crossentropy"
    assert model.output_shape == (None, 5)


def test_models_and_keras_files_come_as_they_are(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(tmp_path / "net.keras")
    assert given_model(model) is model
    assert not given_model(tmp_path / "net.keras").compiled
