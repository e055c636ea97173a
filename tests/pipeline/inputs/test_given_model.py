"""A run takes a `.tflite` file as it takes a Keras file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.rebuilding.test_litert_loading import convolutions

import penjing
from penjing.data.data_sources import UserData
from penjing.errors import DataError
from penjing.pipeline.inputs.given_model import given_model
from penjing.pipeline.inputs.run_inputs import checked_inputs, judge_for
from penjing.pipeline.recipe import TrainingRecipe

pytestmark = pytest.mark.once


@pytest.mark.parametrize("kind", ["sparse_categorical", "categorical"])
def test_labels_of_both_forms_judge_a_classifiers_file(tmp_path, kind):
    path = tmp_path / "net.tflite"
    path.write_bytes(convolutions())
    model = given_model(path)
    assert not model.compiled
    chance = np.random.default_rng(0)
    x = chance.normal(size=(40, *model.input_shape[1:])).astype("float32")
    y = model.predict(x, verbose=0).argmax(-1)
    if kind == "categorical":
        y = np.eye(5, dtype="float32")[y]
    found = checked_as_given(path, ((x, y), (x, y)))
    assert (
        keras.losses.serialize(found.loss)["class_name"]
        .lower()
        .startswith(kind.replace("_", ""))
    )


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
    found = checked_as_given(path, ((x, x[:, :1]), (x, x[:, :1])))
    assert found.loss == "mse"


def test_names_of_other_classes_go_where_the_model_labels():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    part = (x, np.arange(40) % 2)
    data = UserData(train=part, test=part, source="here", class_names=tuple("abcd"))
    options = {"seed": 0, "pixels": "0-255", "accept_baseline": False}
    judge = judge_for("r2_score", training=False, labels=False)
    found = checked_inputs(model, data, TrainingRecipe(), judge=judge, **options)
    assert found.is_taught and found.data.class_names is None
    with pytest.raises(DataError, match="4 classes .* the model 3 outputs"):
        judge = judge_for(training=False, labels=True)
        checked_inputs(model, data, TrainingRecipe(), judge=judge, **options)


def checked_as_given(path, data):
    """The model that a run goes on with."""
    found = checked_inputs(
        path,
        data,
        TrainingRecipe(),
        seed=0,
        pixels="0-255",
        accept_baseline=False,
        judge=judge_for(training=True, labels=True),
    )
    assert not found.is_taught
    return found.model
