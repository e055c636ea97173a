"""Turns in the order of calls, batches of several lengths, effects with biases."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.one_shot.test_one_shot_pruning import kernels

import penjing
from penjing.errors import DataError
from penjing.one_shot import input_moments


def chain(order=range(4)):
    """Four layers in a row, made in the order that is asked for."""
    made = {i: layers.Dense(8, activation="tanh", name=f"d{i}") for i in order}
    for i in order:
        made[i].build((None, 8))
    return made


@keras.saving.register_keras_serializable(package="penjing_measured_model_tests")
class Backwards(keras.Model):
    """Its layers are called in the opposite of the order in which they were made."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.own = list(chain().values())

    def build(self, shape):
        self.built = True

    def call(self, inputs):
        for layer in reversed(self.own):
            inputs = layer(inputs)
        return inputs


@pytest.mark.parametrize("backwards", [False, True])
def test_sequences_in_turns_go_in_the_order_of_calls(backwards):
    x = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")
    model = Backwards() if backwards else keras.Sequential([*chain().values()])
    model(x)
    settings = {"weights": penjing.Grid(bits=2), "sequential": True, "progress": False}
    whole = penjing.quantize_weights(model, x, **settings)
    turns = penjing.quantize_weights(model, x, max_memory=512, **settings)
    for one, two in zip(kernels(whole).values(), kernels(turns).values(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("head", ["vector", "tokens", "lengths"])
def test_batches_may_have_several_lengths(head):
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(20, 6)(inputs)
    if head == "vector":
        x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(1 if head == "lengths" else 4)(x)
    if head == "lengths":
        x = ops.squeeze(x, -1)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 20, (8, length)) for length in (5, 7, 5, 9)]
    report = penjing.sensitivity(model, iter(batches), of="bits", progress=False)
    assert report.samples == 32
    for row in report.rows:
        assert row.changes[0] > row.changes[-1] > 0
    penjing.prune_one_shot(model, iter(batches), 0.5, progress=False)


def test_errors_of_penjing_are_not_said_to_be_those_of_the_data(monkeypatch):
    def broken(*args):
        raise RuntimeError("no memory")

    monkeypatch.setattr(input_moments._Watch, "_sums", broken)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(RuntimeError, match="no memory"):
        penjing.quantize_weights(model, np.eye(4), progress=False)
    with pytest.raises(DataError, match="cannot run"):
        penjing.quantize_weights(model, np.eye(5), progress=False)


def test_effects_are_measured_with_the_mean_made_up_for():
    """All inputs are one: the bias makes up for whatever is done to the kernel."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(3)])
    before = [ops.convert_to_numpy(w) for w in model.weights]
    x = np.tile(np.linspace(1, 2, 6, dtype="float32"), (20, 1))
    report = penjing.sensitivity(model, x, of="bits", bits=(2,), progress=False)
    for row in report.rows:
        assert row.changes[0] < 1e-3
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
