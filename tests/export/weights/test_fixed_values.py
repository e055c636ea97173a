"""Integers, zeros and shared values that training fixed are in files of every mode."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing import Grid
from penjing.errors import CompressionWarning
from penjing.export.litert import export_litert
from penjing.tflite.stored_tensors import read_tflite

once = pytest.mark.once
BYTES = Grid(bits=8, granularity="per_tensor")
FEW = Grid(levels=15, granularity="per_tensor")


def array(value):
    return keras.ops.convert_to_numpy(value)


def images():
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="folded")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(8, 1, groups=2, name="grouped")(x)
    x = layers.SeparableConv2D(16, 3, padding="same", name="separable")(x)
    x = layers.Conv2DTranspose(10, 2, name="transposed")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="head")(x))
    rng = np.random.default_rng(1)
    model.get_layer("norm").gamma.assign(rng.uniform(0.5, 2, 12))
    return model


class Recurrent(keras.layers.Layer):
    """Layers within a layer."""

    def build(self, shape):
        self.steps = layers.LSTM(12, name="steps")
        self.steps.build(shape)

    def call(self, x):
        return self.steps(x)


def sequences():
    inputs = keras.Input((6, 12))
    x = layers.Conv1D(16, 3, padding="same", name="conv1d")(inputs)
    x = layers.MultiHeadAttention(2, 8, name="mha")(x, x)
    inner = keras.Sequential([keras.Input((6, 16)), Recurrent(name="recurrent")])
    return keras.Model(inputs, layers.Dense(8, name="head")(inner(x)))


def words():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(60, 8, name="table"),
            layers.Flatten(),
            layers.Dense(8, name="head"),
        ]
    )


def volumes():
    return keras.Sequential(
        [
            keras.Input((4, 4, 4, 2)),
            layers.Conv3D(8, 3, padding="same", name="conv3d"),
            layers.GlobalAveragePooling3D(),
            layers.Dense(16, name="head"),
        ]
    )


MODELS = {make.__name__: make for make in (images, sequences, words, volumes)}


def inputs_of(model):
    rng = np.random.default_rng(0)
    model = getattr(model, "model", model)
    shape = (24, *model.input_shape[1:])
    if "int" in model.inputs[0].dtype:
        return rng.integers(0, 60, shape).astype("int32")
    return rng.normal(size=shape).astype("float32")


def pruned_and_shared(model, grid=BYTES, values=16):
    """A plain model: half zeros, and `values` shared values on one grid."""
    pruned = penjing.prune(model, penjing.OneShot(0.5), exclude=None)
    pruned(inputs_of(model)[:4], training=True)
    shared = penjing.cluster(pruned, values, exclude=None)
    return penjing.strip(penjing.quantize_aware(shared, weights=grid))


@pytest.fixture(scope="module")
def trained():
    """The models by name, trained once."""
    return {name: pruned_and_shared(make()) for name, make in MODELS.items()}


def kernels(model):
    return {
        v.path: array(v.value)
        for v in model.weights
        if v.name.endswith(("kernel", "embeddings"))
    }


def distinct(path):
    """Sizes of stored integer weights -> their distinct magnitudes and zeros."""
    found = {}
    for tensor in read_tflite(path):
        if tensor.dtype in ("int8", "int4") and len(tensor.shape) > 1:
            steps = tensor.values.astype(int) - tensor.zero
            row = (np.unique(np.abs(steps)).size, int((steps == 0).sum()))
            found.setdefault(tensor.values.size, []).append(row)
    return found


def check_kept(model, path, at_most=None):
    found = distinct(path)
    for name, kernel in kernels(model).items():
        wanted = np.unique(np.abs(kernel)).size
        zeros = int((kernel == 0).sum())
        rows = found.get(kernel.size, [])
        assert (at_most or wanted, zeros) in rows or any(
            count <= wanted and same >= zeros for count, same in rows
        ), (name, kernel.size, wanted, zeros, rows)


@once
@pytest.mark.parametrize("quantization", ["dynamic", "int8", "int16x8"])
@pytest.mark.parametrize("name", MODELS)
def test_shared_values_on_a_grid_are_in_the_file(name, quantization, trained, tmp_path):
    model = trained[name]
    if quantization == "int16x8" and name in ("sequences", "words"):
        pytest.skip("loops and integer inputs have no 16-bit kernels")
    path = export_litert(
        model,
        tmp_path / "m.tflite",
        quantization,
        representative_data=inputs_of(model),
    )
    check_kept(model, path)


def export(model, tmp_path, quantization):
    """Export without a word; what was warned of otherwise."""
    path = tmp_path / "m.tflite"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_litert(model, path, quantization, representative_data=inputs_of(model))
    texts = [str(w.message) for w in caught if w.category is CompressionWarning]
    return path, " ".join(texts)


@pytest.mark.costly_on_jax
@pytest.mark.parametrize("method", ["cluster", pytest.param("quantize", marks=once)])
def test_every_backend_keeps_them_in_int8(method, tmp_path):
    inputs = keras.Input((9,))
    x = layers.Dense(30, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(8, name="head")(x))
    if method == "cluster":
        plain = penjing.strip(penjing.cluster(model, 6))
    else:
        plain = pruned_and_shared(model)
    plain.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    path, told = export(again, tmp_path, "int8")
    check_kept(plain, path)
    assert not told


@once
def test_scales_of_channels_are_kept_where_the_operator_takes_them(tmp_path):
    grid = Grid(levels=15)
    image = penjing.strip(penjing.quantize_aware(images(), weights=grid))
    path, told = export(image, tmp_path, "int8")
    assert not told
    assert all(max(row)[0] <= 8 for row in distinct(path).values())
    table = penjing.strip(penjing.quantize_aware(words(), weights=grid))
    path, told = export(table, tmp_path, "int8")
    assert "`table/embeddings`: " in told or "/table/embeddings`: " in told
    assert "GATHER takes one scale" in told
    assert "head" not in told
    path, told = export(table, tmp_path, "dynamic")
    assert not told


@once
def test_a_grid_or_codebook_too_fine_for_int4_is_named(trained, tmp_path):
    wide = keras.Sequential([keras.Input((40,)), layers.Dense(40, name="wide")])
    path, told = export(pruned_and_shared(wide, values=32), tmp_path, "int4")
    assert "wide/kernel`: " in told and "int4 has 15 levels" in told
    path, told = export(trained["images"], tmp_path, "int8x4")
    assert not told  # small ones stay int8, on their grids
    check_kept(trained["images"], path)
    few = penjing.strip(penjing.cluster(images(), 5))
    for quantization in ("int4", "int8x4", "int4_weight_only"):
        path, told = export(few, tmp_path, quantization)
        assert not told


@once
def test_weights_that_stay_float_are_named_with_the_reason(tmp_path):
    path, told = export(volumes(), tmp_path, "int8")
    assert "stay float32: 432 numbers" in told
    assert "CONV_3D" in told and "no integer kernel" in told
    path, told = export(images(), tmp_path, "int8")
    assert not told


@once
def test_zeros_alone_are_kept_and_nothing_is_said(tmp_path):
    pruned = penjing.prune(images(), penjing.OneShot(0.6), exclude=None)
    pruned(inputs_of(pruned.model)[:4], training=True)
    plain = penjing.strip(pruned)
    for quantization in ("int8", "dynamic", "int8x4"):
        path, told = export(plain, tmp_path, quantization)
        assert not told
        found = distinct(path)
        for kernel in kernels(plain).values():
            zeros = (kernel == 0).sum()
            assert any(row[1] >= zeros for row in found.get(kernel.size, [(0, 1e9)]))


@once
def test_a_grid_that_is_not_symmetric_is_named(tmp_path):
    kernel = np.random.default_rng(0).integers(-128, 128, (16, 16)) / 100
    kernel[:2] = [[-1.28] * 16, [1.27] * 16]
    model = keras.Sequential([keras.Input((16,)), layers.Dense(16, use_bias=False)])
    model.layers[0].set_weights([kernel])
    _, told = export(model, tmp_path, "int8")
    assert "goes down to -128" in told


@once
def test_no_kernel_of_a_frozen_base_stays_float_without_a_word(tmp_path):
    base = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(8, 3, name="base")])
    base.trainable = False
    model = keras.Sequential(
        [keras.Input((6, 6, 4)), base, layers.Flatten(), layers.Dense(4, name="head")]
    )
    trained = penjing.quantize_aware(
        model, activations="int8", calibration_data=inputs_of(model)
    )
    path, told = export(trained, tmp_path, "int8")
    kernels = [t for t in read_tflite(path) if len(t.shape) > 1]
    floats = [t for t in kernels if t.dtype == "float32"]
    assert bool(floats) == ("stay float32" in told)
    assert len(kernels) == 2
