"""Weights of four bits: what the file stores, and what it computes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.export.weights.test_weight_grids import (
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
from penjing.export.litert import export_litert
from penjing.export.verification import output_error
from penjing.export.weights.integer_weights import rounded_to_int4
from penjing.tflite.stored_tensors import read_tflite

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


@once
def test_int4_halves_the_file(tmp_path):
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


def branched():
    """Two inputs, one weight that two layers share, and one that stays int8."""
    left, right = keras.Input((10, 10, 6)), keras.Input((10, 10, 6))
    shared = layers.Conv2D(24, 3, activation="relu", name="shared")
    x = layers.Add()([shared(left), shared(right)])
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2DTranspose(12, 3, name="transposed")(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(96, 1, name="wide")(x))
    return keras.Model([left, right], layers.Dense(17, name="head")(x))


def vary_biases(model):
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if weight.path.endswith("bias"):
            weight.assign(rng.normal(size=weight.shape) * 0.5)
    return model


@once
def test_int8_activations_take_int4_weights_with_biases_at_their_scale(tmp_path):
    quantized = penjing.quantize_aware(
        vary_biases(branched()), weights=Grid(levels=15, granularity="per_tensor")
    )
    model = penjing.strip(quantized)
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(60, 10, 10, 6)).astype("float32") for _ in range(2)]
    expected = array(model(x))
    errors = {}
    for mode in ("int8", "int8x4"):
        path = export_litert(
            model, tmp_path / f"{mode}.tflite", mode, representative_data=x
        )
        found = penjing.LiteRTModel(path).predict(x)
        errors[mode] = output_error(found, expected)
    # The grid is exact in four bits, so nothing is lost beside eight.
    assert errors["int8x4"] < 1.3 * errors["int8"] + 0.005
    kinds = plain_weights(path)
    stays = {shape for shape, kind in kinds.items() if kind == "int8"}
    assert [len(stays), (12, 3, 3, 24) in stays] == [1, True]
    assert set(kinds.values()) == {"int4", "int8"}
    kernel = array(model.get_layer("head").kernel).T
    integers, scales, axis = read_int4(path)[17, 96]
    np.testing.assert_allclose(integers * scales[:, None], kernel, rtol=1e-6)
    assert axis == 0


@once
def test_untrained_weights_are_rounded_once_from_their_floats(tmp_path, capsys):
    model = keras.Sequential(
        [keras.Input((60,)), layers.Dense(40, "relu", name="a"), layers.Dense(7)]
    )
    x = np.random.default_rng(0).normal(size=(200, 60)).astype("float32")
    path = export_litert(
        model,
        tmp_path / "m.tflite",
        "int8x4",
        representative_data=x,
        input_type="int8",
        output_type="uint8",
    )
    assert plain_weights(path) == {(40, 60): "int4", (7, 40): "int8"}  # too small
    said = capsys.readouterr().err
    assert "keeps more than 4 bits in 1 weight: 280 numbers of `" in said
    assert "(int8: fewer than 1,024 on no grid of 4 bits)." in said
    kernel = array(model.get_layer("a").kernel).T
    wanted = rounded_to_int4(kernel, 0)
    integers, scales, _ = read_int4(path)[40, 60]
    np.testing.assert_array_equal(integers, wanted.integers)
    np.testing.assert_allclose(scales, wanted.scales, rtol=1e-6)  # order of sums
    for kernels in KERNELS:
        file = penjing.LiteRTModel(path)
        stored = run(path, file.inputs[0].encode(x), kernels)
        assert output_error(file.outputs[0].decode(stored), array(model(x))) < 0.2
