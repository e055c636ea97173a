"""Which models are measured and compressed: the same for both."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.errors import CompressionError, CompressionWarning, UnsupportedModelError

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")


def dense(dtype="float32"):
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype=dtype)])


def sensitivity(model):
    return penjing.sensitivity(model, X, of="bits", progress=False)


def rounding(model):
    return penjing.quantize_weights(model, X, progress=False)


@pytest.mark.parametrize("does", [sensitivity, rounding])
def test_models_that_cannot_be_taken_say_why(does):
    model = dense()
    with pytest.raises(UnsupportedModelError, match="Strip it first"):
        does(penjing.prune(model, penjing.OneShot(0.5)))
    with pytest.raises(UnsupportedModelError, match="is not built"):
        does(keras.Sequential([layers.Dense(3)]))
    model.layers[0].kernel.assign(np.full((4, 3), np.nan))
    with pytest.raises(CompressionError, match="NaN or infinite"):
        does(model)


@pytest.mark.parametrize("does", [sensitivity, rounding])
def test_models_that_keras_quantized_are_taken_over(does):
    model = dense()
    model.layers[0].quantize("int8")
    with pytest.warns(CompressionWarning, match="quantized"):
        assert does(model) is not None


def test_scales_are_those_that_the_type_holds(monkeypatch):
    from penjing.one_shot import layer_errors

    seen = []
    real = layer_errors.compress_matrix

    def spied(matrix, target, inputs):
        seen.append(target.precision)
        return real(matrix, target, inputs)

    monkeypatch.setattr(layer_errors, "compress_matrix", spied)
    sensitivity(dense("bfloat16"))
    assert set(seen) == {8}
