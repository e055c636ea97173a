"""A run takes a `.tflite` file as it takes a Keras file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.rebuilding.test_litert_loading import convolutions

import penjing
from penjing.pipeline.inputs.given_model import given_model
from penjing.pipeline.inputs.run_inputs import checked_inputs, judge_for
from penjing.pipeline.recipe import TrainingRecipe

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


def test_labels_say_what_a_file_without_a_loss_is_judged_by(tmp_path):
    path = tmp_path / "regression.tflite"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    penjing.export_litert(model, path)
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    found = checked_inputs(
        path,
        ((x, x[:, :1]), (x, x[:, :1])),
        TrainingRecipe(),
        seed=0,
        pixels="0-255",
        accept_baseline=False,
        judge=judge_for(training=True, labels=True),
    )
    assert found.model.loss == "mse"
    assert not found.is_taught
