"""What runs inside a forward pass, and what it leaves behind."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.activation_cases import data, net, once
from tests.engine.training_cases import to_array

import penjing


@once
def test_the_forward_pass_leaves_no_trace_in_the_layers():
    x, _ = data()
    model = penjing.quantize_aware(net(), activations="int8", calibration_data=x)
    model(x)
    for layer in model.model.layers:
        assert "call" not in layer.__dict__
        assert layer.activation in (keras.activations.relu, keras.activations.linear)
    with pytest.raises(Exception, match="input"):
        model(np.ones((2, 7), "float32"))
    assert not any("call" in layer.__dict__ for layer in model.model.layers)


@once
def test_inputs_are_rounded_by_name_and_integers_are_not():
    first = keras.Input((4,), name="b")
    second = keras.Input((4,), name="a")
    words = keras.Input((2,), dtype="int32", name="words")
    table = layers.Flatten()(layers.Embedding(5, 2)(words))
    x = layers.Concatenate()([first, layers.Dense(4)(second), table])
    model = keras.Model([first, second, words], layers.Dense(3)(x))
    rng = np.random.default_rng(0)
    arrays = {
        "b": rng.normal(size=(64, 4)).astype("float32"),
        "a": rng.normal(size=(64, 4)).astype("float32") * 10,
        "words": rng.integers(0, 5, (64, 2)).astype("int32"),
    }
    quantized = penjing.quantize_aware(
        model, activations="int8", calibration_data=arrays
    )
    grids = quantized.activations.grids()
    assert grids["input_1"][0] > 0.05
    assert "input_2" not in grids
    by_name = to_array(quantized(arrays))
    by_order = to_array(quantized([arrays[key] for key in ("b", "a", "words")]))
    np.testing.assert_array_equal(by_name, by_order)
