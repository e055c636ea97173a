"""What is left of zeros and shared values in exported files, read from their bytes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.tflite.stored_tensors import read_tflite

pytestmark = pytest.mark.once

CLUSTERS = 6


def images():
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(12, 3, name="conv"),
            layers.Conv2D(24, 1, name="one_by_one"),
            layers.SeparableConv2D(16, 3, name="separable"),
            layers.Flatten(),
            layers.Dense(10, name="head"),
        ]
    )


def sequences():
    inputs = keras.Input((6, 12))
    x = layers.Conv1D(16, 3, padding="same", name="conv1d")(inputs)
    x = layers.MultiHeadAttention(2, 8, name="mha")(x, x)
    x = layers.LSTM(12, name="lstm", unroll=True)(x)
    return keras.Model(inputs, layers.Dense(8, name="head")(x))


@pytest.fixture(scope="module", params=[images, sequences], ids=lambda f: f.__name__)
def small(request):
    """Pruned and clustered together, trained two steps, and stripped."""
    model = request.param()
    both = penjing.cluster(penjing.prune(model, penjing.OneShot(0.6)), CLUSTERS)
    both.compile("adam", "mse", run_eagerly=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, *model.input_shape[1:])).astype("float32")
    y = rng.normal(size=(32, *model.output_shape[1:])).astype("float32")
    both.fit(x, y, batch_size=16, verbose=0)
    selected = both.transforms[1].paths
    plain = penjing.strip(both)
    return plain, [
        keras.ops.convert_to_numpy(variable.value)
        for variable in plain.trainable_variables
        if variable.path in selected
    ]


def weight_tensors(path, kernels):
    """Tensors of the file that hold kernels: large, with more than a half zeros."""
    found = [
        tensor
        for tensor in read_tflite(path)
        if tensor.values is not None
        and tensor.values.size >= min(kernel.size for kernel in kernels) // 4
        and np.unique(tensor.values).size > 1
        and (tensor.values == 0).mean() > 0.3
    ]
    assert sum(tensor.values.size for tensor in found) == sum(k.size for k in kernels)
    return found


def test_the_kernels_themselves(small):
    _, kernels = small
    assert len(kernels) in (4, 8)
    for kernel in kernels:
        assert (kernel == 0).mean() == pytest.approx(0.6, abs=0.01)
        assert 2 <= np.unique(kernel[kernel != 0]).size <= CLUSTERS


def test_a_float_file_keeps_zeros_and_shared_values(small, tmp_path):
    model, kernels = small
    path = penjing.export_litert(model, tmp_path / "float.tflite")
    tensors = weight_tensors(path, kernels)
    zeros = sum(int((tensor.values == 0).sum()) for tensor in tensors)
    assert zeros == sum(int((kernel == 0).sum()) for kernel in kernels)
    for tensor in tensors:
        assert np.unique(tensor.values[tensor.values != 0]).size <= CLUSTERS
    rows = {row.name: row for row in penjing.inspect_file(path).tensors}
    assert all(rows[tensor.name].distinct <= CLUSTERS + 1 for tensor in tensors)


def test_a_dynamic_range_file_keeps_zeros_and_few_integers_a_channel(small, tmp_path):
    """Scales are per channel there, so a shared value is many integers in all."""
    model, kernels = small
    path = penjing.export_litert(
        model, tmp_path / "dynamic.tflite", quantization="dynamic"
    )
    tensors = weight_tensors(path, kernels)
    zeros = sum(int((tensor.values == 0).sum()) for tensor in tensors)
    assert zeros >= sum(int((kernel == 0).sum()) for kernel in kernels)
    for tensor in tensors:
        channels = tensor.values.reshape(tensor.values.shape[0], -1)
        for channel in channels:
            assert np.unique(channel[channel != 0]).size <= CLUSTERS


def test_all_three_together_keep_few_integers_in_the_whole_tensor(tmp_path):
    """Pruned, clustered and quantized with one scale a tensor, in one model."""
    model = images()
    pruned = penjing.prune(model, penjing.OneShot(0.6))
    all_three = penjing.quantize_aware(
        penjing.cluster(pruned, CLUSTERS), exclude="*/depthwise_kernel"
    )
    all_three.compile("adam", "mse", run_eagerly=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 8, 8, 4)).astype("float32")
    all_three.fit(
        x, rng.normal(size=(32, 10)).astype("float32"), batch_size=16, verbose=0
    )
    plain = penjing.strip(all_three)
    kernels = [
        keras.ops.convert_to_numpy(variable.value)
        for variable in plain.trainable_variables
        if variable.path in all_three.transforms[1].paths
    ]
    path = penjing.export_litert(plain, tmp_path / "all.tflite", quantization="dynamic")
    tensors = weight_tensors(path, kernels)
    zeros = sum(int((tensor.values == 0).sum()) for tensor in tensors)
    assert zeros == sum(int((kernel == 0).sum()) for kernel in kernels)
    assert zeros >= 0.59 * sum(kernel.size for kernel in kernels)
    for tensor in tensors:
        assert np.unique(tensor.values[tensor.values != 0]).size <= CLUSTERS
