"""Weights of four bits: what the file stores, and what it computes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.export.test_weight_grids import (
    array,
    images,
    inputs_of,
    sequences,
    vary_norms,
    words,
)

import penjing
from penjing import Grid
from penjing.errors import ExportError
from penjing.export.integer_weights import pack_int4, rounded_to_int4
from penjing.export.litert import export_litert
from penjing.export.verification import output_error
from penjing.measurement.tflite_tensors import read_tflite

once = pytest.mark.once
KERNELS = ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF")


def run(path, x, kernels):
    """Outputs with one of the runtime's three sets of kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType[kernels]
    )
    (detail,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(detail["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def plain_weights(path):
    return {t.shape: t.dtype for t in read_tflite(path) if len(t.shape) > 1}


def error_of_rounding(values, scale):
    integers = np.clip(np.round(values / scale), -7, 7)
    return ((values - integers * scale) ** 2).sum()


def read_int4(path):
    """Reader of another make: shape -> integers, scales and the axis of the scales."""
    import flatbuffers  # noqa: F401  # the generated reader needs it
    from ai_edge_litert import schema_py_generated as schema

    file = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    found = {}
    for tensor in file.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT4:
            packed = np.asarray(file.buffers[tensor.buffer].data, "u1")
            flat = np.stack([packed & 15, packed >> 4], 1).reshape(-1).astype("i2")
            flat = np.where(flat > 7, flat - 16, flat)[: np.prod(tensor.shape)]
            quantization = tensor.quantization
            found[tuple(tensor.shape)] = (
                flat.reshape(tensor.shape),
                quantization.scale,
                quantization.quantizedDimension,
            )
    return found


def test_packing_puts_the_first_integer_into_the_lower_half():
    assert pack_int4(np.int8([[1, 2], [-7, 7]])) == bytes([0x21, 0x79])
    assert pack_int4(np.int8([-1])) == bytes([0x0F])
    assert pack_int4(np.zeros((0,), "int8")) == b""


@once
def test_scales_have_the_least_squared_error():
    values = np.random.default_rng(0).normal(size=(6, 5, 40)).astype("float32")
    values[3] = 0
    weights = rounded_to_int4(values, 0)
    assert weights.scales.shape == (6,)
    for channel, scale in zip(values, weights.scales, strict=True):
        steps = np.abs(channel).max() / 7 * np.linspace(0.2, 1.0, 2000) + 1e-9
        best = min(error_of_rounding(channel, step) for step in steps)
        assert error_of_rounding(channel, scale) <= 1.001 * best
    assert not weights.integers[3].any()
    assert rounded_to_int4(values, None).scales.shape == (1,)


@once
@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("make", [images, sequences, words])
def test_weights_on_a_grid_of_15_levels_are_exact(make, granularity, tmp_path):
    quantized = penjing.quantize_aware(
        vary_norms(make()), weights=Grid(levels=15, granularity=granularity)
    )
    model = penjing.strip(quantized)
    x = inputs_of(model)
    expected = array(model(x))
    path = export_litert(model, tmp_path / "m.tflite", "int4_weight_only")
    assert set(plain_weights(path).values()) == {"int4"}
    for kernels in KERNELS:
        assert output_error(run(path, x, kernels), expected) < 1e-5
    path = export_litert(model, tmp_path / "m.tflite", "int4")
    kinds = plain_weights(path)
    depthwise = {shape: kind for shape, kind in kinds.items() if kind == "int8"}
    assert len(depthwise) == (2 if make is images else 0)
    assert set(kinds.values()) - {"int8"} == {"int4"}
    for kernels in KERNELS:
        assert output_error(run(path, x, kernels), expected) < 0.05
    assert output_error(run(path, x[:1], "AUTO"), expected[:1]) < 0.1


@once
def test_the_integers_are_those_of_training(tmp_path):
    model = keras.Sequential([keras.Input((24,)), layers.Dense(9, name="head")])
    quantized = penjing.quantize_aware(
        penjing.prune(model, penjing.OneShot(0.5)),
        weights=Grid(levels=15, granularity="per_tensor"),
    )
    quantized(np.zeros((2, 24), "float32"), training=True)
    (scale,) = (array(s) for s in quantized.transforms[-1].scales().values())
    kernel = array(penjing.strip(quantized).get_layer("head").kernel)
    path = export_litert(quantized, tmp_path / "m.tflite", "int4")
    integers, scales, _ = read_int4(path)[9, 24]
    np.testing.assert_array_equal(integers, np.rint(kernel / scale).T)
    np.testing.assert_array_equal(scales, scale.reshape(-1))
    assert (integers == 0).sum() >= 108


def test_int4_halves_the_file_on_every_backend(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(128), layers.Dense(48)])
    x = np.random.default_rng(0).normal(size=(40, 64)).astype("float32")
    path = export_litert(model, tmp_path / "m.tflite", "int4", representative_data=x)
    assert plain_weights(path) == {(128, 64): "int4", (48, 128): "int4"}
    assert path.stat().st_size < 0.5 * (64 + 48) * 128 + 3600  # scales, biases
    found = penjing.LiteRTModel(path).predict(x)
    assert output_error(found, array(model(x))) < 0.2


@once
def test_what_four_bits_cannot_hold_is_refused_with_the_fix(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(64)])
    monkeypatch.setitem(penjing.export.verification.TOLERANCES, "int4", 0.01)
    with pytest.raises(ExportError, match=r"too few for this model.*Grid\(bits=4\)"):
        export_litert(model, tmp_path / "m.tflite", "int4")
    assert not list(tmp_path.iterdir())
