"""Files of models that Keras quantized hold the integers that Keras chose."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.errors import CompressionWarning, ExportError, UnsupportedModelError
from penjing.tflite.stored_tensors import read_tflite

once = pytest.mark.once
# Keras' word on each layer that it leaves as it is.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* `quantize` method")
needs_four_bits = pytest.mark.skipif(
    not hasattr(keras.quantizers, "Int4QuantizationConfig"),
    reason="Keras has no such integers",
)


def array(value):
    return keras.ops.convert_to_numpy(value)


def net():
    inputs = keras.Input((6, 10))
    x = layers.EinsumDense("abc,cd->abd", (None, 12), name="einsum")(inputs)
    x = layers.Dense(14, activation="relu", name="hidden")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(8, name="head")(x))


def samples():
    return np.random.default_rng(0).normal(size=(40, 6, 10)).astype("float32")


def export(model, tmp_path, quantization):
    path = tmp_path / "m.tflite"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        penjing.export_litert(model, path, quantization, representative_data=samples())
    texts = [str(w.message) for w in caught if w.category is CompressionWarning]
    return path, " ".join(texts)


def integers(path):
    found = {}
    for tensor in read_tflite(path):
        if tensor.dtype in ("int8", "int4") and len(tensor.shape) > 1:
            found[tensor.values.size] = np.sort(np.abs(tensor.values.astype(int)))
    return found


def check(model, path):
    stored = integers(path)
    for name in ("einsum", "hidden", "head"):
        kernel = array(model.get_layer(name).kernel).astype(int)
        np.testing.assert_array_equal(
            stored[kernel.size], np.sort(np.abs(kernel.ravel()))
        )


@pytest.mark.costly_on_jax
@pytest.mark.parametrize("quantization", ["int8", pytest.param("dynamic", marks=once)])
def test_int8_is_exact(quantization, tmp_path):
    model = net()
    model.quantize("int8")
    path, told = export(model, tmp_path, quantization)
    assert not told
    check(model, path)


@once
@needs_four_bits
def test_int4_is_exact_and_smaller_than_float(tmp_path):
    model = net()
    config = keras.quantizers.Int4QuantizationConfig(block_size=None)
    model.quantize("int4", config=config)
    for quantization in ("int4", "int8x4", "int8", "dynamic"):
        path, told = export(model, tmp_path, quantization)
        assert not told
        check(model, path)
    path, told = export(model, tmp_path, None)
    assert not told


@once
@needs_four_bits
def test_groups_of_inputs_are_told_and_floats_hold_them(tmp_path):
    model = net()
    config = keras.quantizers.Int4QuantizationConfig(block_size=4)
    model.quantize("int4", config=config)
    path, told = export(model, tmp_path, "dynamic")
    assert "head" in told and "rounded anew" in told
    path, told = export(model, tmp_path, None)
    assert not told
    actual = penjing.LiteRTModel(path).predict(samples())
    np.testing.assert_allclose(actual, array(model(samples())), atol=1e-4)


@once
def test_float8_is_refused_with_the_reason(tmp_path):
    model = net()
    model.quantize("float8")
    with pytest.raises((ExportError, UnsupportedModelError), match="float8 is no grid"):
        penjing.export_litert(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())
