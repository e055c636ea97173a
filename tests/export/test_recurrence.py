"""Loops as the converter understands them, against Keras' own."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from penjing.errors import ExportError
from penjing.export.recurrence import check_calibration, convertible_loops

layers = keras.layers
pytestmark = pytest.mark.once
STEPS = 5
CELLS = {
    "lstm": lambda **options: layers.LSTM(4, **options),
    "gru": lambda **options: layers.GRU(4, **options),
    "simple": lambda **options: layers.SimpleRNN(4, **options),
    "stacked": lambda **options: layers.RNN(
        [layers.LSTMCell(3), layers.GRUCell(4)], **options
    ),
}


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(6, STEPS, 3)).astype("float32")
    for row, length in enumerate((5, 3, 1, 4, 2, 5)):
        values[row, length:] = 0
    return values


def of_layer(layer, mask):
    x = keras.Input((STEPS, 3))
    return keras.Model(x, layer(layers.Masking()(x) if mask else x))


def run(model, x):
    """Outputs and last states, flat."""
    found = keras.tree.flatten(model(x, training=False))
    return [keras.ops.convert_to_numpy(value) for value in found]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its loops")
@pytest.mark.parametrize("mask", [False, True], ids=["all steps", "masked"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True, "return_state": True},
        {"return_sequences": True, "go_backwards": True},
    ],
    ids=str,
)
def test_loops_compute_what_keras_computes(cell, mask, options):
    model = of_layer(CELLS[cell](**options), mask)
    x = sequences()
    expected = run(model, x)
    with convertible_loops(model):
        assert "inner_loop" in model.layers[-1].__dict__
        found = run(model, x)
    assert "inner_loop" not in model.layers[-1].__dict__
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_layers_that_are_unrolled_stay_as_they_are():
    model = of_layer(layers.GRU(4, unroll=True), mask=False)
    with convertible_loops(model):
        assert "inner_loop" not in model.layers[-1].__dict__


def test_calibration_of_a_loop_needs_a_free_batch():
    looping = of_layer(layers.GRU(4, name="loop"), mask=False)
    with pytest.raises(ExportError, match="the layer `loop` .*fixed, here to 4"):
        check_calibration(looping, 4)
    check_calibration(looping, None)
    check_calibration(of_layer(layers.GRU(4, unroll=True), mask=False), 4)
