"""Weights on a grid keep their integers and scales in the file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing import Grid
from penjing.export.litert import export_litert
from penjing.export.verification import output_error
from penjing.export.weights.weight_grids import has_weight_grids, keep_weight_grids
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.stored_tensors import read_tflite

once = pytest.mark.once
FEW = Grid(levels=15, granularity="per_tensor")


def images():
    """Convolutions of every kind, of which one is folded with its normalization."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(12, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(),
            layers.Conv2D(24, 1, name="one_by_one"),
            layers.Conv2D(8, 1, groups=2, name="grouped"),
            layers.SeparableConv2D(16, 3, padding="same", name="separable"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Conv2DTranspose(6, 2, name="transposed"),
            layers.Flatten(),
            layers.Dense(10, name="head"),
        ]
    )


def sequences():
    inputs = keras.Input((6, 12))
    x = layers.Conv1D(16, 3, padding="same", name="conv1d")(inputs)
    x = layers.MultiHeadAttention(2, 8, name="mha")(x, x)
    x = layers.LSTM(12, name="lstm")(x)
    return keras.Model(inputs, layers.Dense(8, name="head")(x))


def words():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(40, 6, name="table"),
            layers.Flatten(),
            layers.Dense(8, name="head"),
        ]
    )


def array(value):
    return keras.ops.convert_to_numpy(value)


def inputs_of(model):
    rng = np.random.default_rng(0)
    shape = (40, *model.input_shape[1:])
    if "int" in model.inputs[0].dtype:
        return rng.integers(0, 40, shape).astype("int32")
    return rng.normal(size=shape).astype("float32")


def vary_norms(model):
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(-2, 2, layer.gamma.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.gamma.shape))
    return model


def pruned_and_quantized(model, grid):
    """A model in training, whose weights are half zeros and lie on a grid."""
    pruned = penjing.prune(model, penjing.OneShot(0.5), exclude=None)
    pruned(inputs_of(model)[:4], training=True)
    return penjing.quantize_aware(pruned, weights=grid)


def real_values(path):
    """Integers and sorted real values of each int8 tensor of a file."""
    import flatbuffers  # noqa: F401  # the generated reader needs it
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    found = []
    for graph in file.subgraphs:
        for tensor in graph.tensors:
            data = file.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.INT8 or data is None:
                continue
            integers = np.asarray(data, "u1").view("i1").reshape(tensor.shape)
            shape = [1] * integers.ndim
            shape[tensor.quantization.quantizedDimension] = -1
            scales = tensor.quantization.scale
            found.append((integers, integers * scales.reshape(shape), scales))
    return found


@once
@pytest.mark.parametrize("grid", [FEW, Grid(bits=8)], ids=["few", "eight"])
@pytest.mark.parametrize("make", [images, sequences, words])
def test_the_file_holds_the_trained_integers_and_scales(make, grid, tmp_path):
    model = vary_norms(make())
    quantized = pruned_and_quantized(model, grid)
    path = export_litert(quantized, tmp_path / "small.tflite", "dynamic")
    transform = quantized.transforms[-1]
    plain = {v.path: array(v.value) for v in penjing.strip(quantized).weights}
    stored = real_values(path)
    for weight_path, scale in transform.scales().items():
        if "conv/" in weight_path and "grouped" not in weight_path and make is images:
            continue  # folded with its normalization
        wanted = np.sort(plain[weight_path].ravel())
        same = [
            (integers, scales)
            for integers, real, scales in stored
            if real.size == wanted.size
            and np.allclose(np.sort(real.ravel()), wanted, rtol=1e-6, atol=0)
        ]
        assert same, weight_path
        integers, scales = same[0]
        if grid is FEW:
            trained = np.rint(plain[weight_path] / array(scale))
            np.testing.assert_array_equal(
                np.sort(integers.ravel()), np.sort(trained.ravel())
            )
            np.testing.assert_array_equal(scales, array(scale))
            depthwise = "depthwise" in weight_path or "grouped" in weight_path
            assert depthwise or scales.size == 1
    assert all(np.abs(integers).max() <= grid.highest for integers, *_ in stored)
    sizes = [t.values.size for t in read_tflite(path) if t.dtype == "float32"]
    assert max(sizes, default=0) <= 64  # biases alone
    x = inputs_of(model)
    found = penjing.LiteRTModel(path).predict(x)
    assert output_error(found, array(quantized(x))) < 0.05


@once
def test_a_folded_normalization_keeps_integers_and_zeros(tmp_path):
    model = vary_norms(
        keras.Sequential(
            [
                keras.Input((8, 8, 4)),
                layers.Conv2D(12, 3, use_bias=False),
                layers.BatchNormalization(),
                layers.GlobalAveragePooling2D(),
            ]
        )
    )
    plain = penjing.strip(pruned_and_quantized(model, FEW))
    plain.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    path = export_litert(again, tmp_path / "small.tflite", "dynamic")
    kernel = array(plain.layers[0].kernel)
    ((integers, _, scales),) = real_values(path)
    assert scales.size == 12
    wanted = np.moveaxis(kernel, -1, 0)
    for channel, trained in zip(integers, wanted, strict=True):
        ratio = channel[trained != 0] / trained[trained != 0]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
        assert not channel[trained == 0].any()


@once
def test_shared_values_stay_few_and_others_are_as_the_converter_makes_them(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((40,)),
            layers.Dense(50, name="shared"),
            layers.Dense(40, name="dense"),
            layers.Dense(3, name="small"),
        ]
    )
    clustered = penjing.strip(penjing.cluster(model, 6, include="shared"))
    path = export_litert(clustered, tmp_path / "small.tflite", "dynamic")
    stored = {
        integers.shape: (integers, scales) for integers, _, scales in real_values(path)
    }
    integers, scales = stored.pop((50, 40))
    assert scales.size == 1
    assert np.unique(integers).size <= 6
    integers, scales = stored.pop((40, 50))
    kernel = array(clustered.layers[1].kernel)
    np.testing.assert_allclose(scales, np.abs(kernel).max(axis=0) / 127, rtol=1e-6)
    np.testing.assert_array_equal(integers, np.rint(kernel.T / scales[:, None]))
    assert not stored  # the small one stays in float, as the converter has it


@once
@pytest.mark.parametrize("make", [images, sequences])
def test_zeros_and_shared_values_survive_all_three_methods(make, tmp_path):
    model = make()
    pruned = penjing.prune(model, penjing.OneShot(0.6))
    pruned(inputs_of(model)[:4], training=True)
    quantized = penjing.quantize_aware(penjing.cluster(pruned, 6))
    quantized.compile("sgd", "mse", run_eagerly=True)  # two steps
    x = inputs_of(model)[:8]
    for _ in range(2):
        quantized.train_on_batch(x, np.ones((8, *model.output_shape[1:])))
    path = export_litert(quantized, tmp_path / "small.tflite", "dynamic")
    plain = {v.path: array(v.value) for v in penjing.strip(quantized).weights}
    stored = [integers for integers, *_ in real_values(path)]
    shared = quantized.transforms[1].paths
    assert len(shared) >= 5
    for weight_path in shared:
        kernel = plain[weight_path]
        same = [
            integers
            for integers in stored
            if integers.size == kernel.size
            and (integers == 0).sum() == (kernel == 0).sum()
            and np.unique(integers).size <= 7
        ]
        assert same, weight_path
        assert (kernel == 0).mean() >= 0.59


@once
@pytest.mark.parametrize("make", [images, sequences, words])
def test_only_grids_are_seen(make):
    model = make()
    assert not has_weight_grids(model)
    assert has_weight_grids(penjing.strip(penjing.quantize_aware(model, weights=FEW)))


@pytest.mark.costly_on_jax
def test_every_backend_writes_the_trained_integers(tmp_path):
    rng = np.random.default_rng(3)
    model = keras.Sequential(
        [
            keras.Input((9,)),
            layers.Dense(30, activation="relu", name="hidden"),
            layers.Dense(4, name="head"),
        ]
    )
    quantized = pruned_and_quantized(model, FEW)
    quantized.compile("adam", "mse", jit_compile=keras.backend.backend() == "jax")
    x, y = rng.normal(size=(64, 9)), rng.normal(size=(64, 4))
    quantized.fit(x.astype("float32"), y.astype("float32"), epochs=2, verbose=0)
    path = export_litert(quantized, tmp_path / "small.tflite", "dynamic")
    plain = penjing.strip(quantized)
    scales = list(quantized.transforms[-1].scales().values())
    stored = {t.values.size: t for t in read_tflite(path) if t.dtype == "int8"}
    for layer, scale in zip(plain.layers, scales, strict=True):
        kernel = array(layer.kernel)
        tensor = stored[kernel.size]
        integers = tensor.values.reshape(kernel.shape[::-1]).T
        np.testing.assert_array_equal(integers, np.rint(kernel / array(scale)))
        assert tensor.num_scales == 1
        assert np.unique(integers).size <= 15
        assert (integers == 0).mean() >= 0.5


@once
def test_a_file_without_weights_is_left_as_it_is(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.ReLU()])
    path = export_litert(model, tmp_path / "plain.tflite")
    file = EditedFile(path.read_bytes(), "a file")
    file.edit(keep_weight_grids)
    (tmp_path / "same.tflite").write_bytes(file.content)
    x = np.float32([[1, -2, 3, -4]])
    same = penjing.LiteRTModel(tmp_path / "same.tflite").predict(x)
    np.testing.assert_array_equal(same, [[1, 0, 3, 0]])
