"""`quantize_aware`: which weights lie on which grid, and what it refuses."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.grid_cases import FEW, check_grids, scales, steps
from tests.engine.small_net import data, kernels, net
from tests.engine.training_cases import to_array

import penjing
from penjing import (
    CompressionWarning,
    Grid,
    OneShot,
)


def every_layer():
    """Each kind of layer whose weights are quantized, in one graph."""
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    x = layers.Conv2D(5, 1, name="pointwise")(x)
    x = layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.Conv2DTranspose(6, 2, name="transposed")(x)
    x = layers.Reshape((9, 6))(x)
    x = layers.Conv1D(8, 2, name="conv1d")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.LSTM(5, name="lstm")(x)
    return keras.Model(image, layers.Dense(4, name="dense")(x), name="all")


@pytest.mark.costly_on_jax
def test_every_kind_of_layer_lands_on_its_grid():
    model = every_layer()
    for variable in model.trainable_variables:
        values = to_array(variable)
        variable.assign(np.where(np.abs(values) < 0.1, 0, values))
    before = kernels(model)
    quantized = penjing.quantize_aware(model, weights=Grid(levels=15))
    plain = check_grids(quantized, 7)
    assert set(scales(quantized)) == set(before)
    channels = {"transposed": -2, "depthwise": 8, "query": 6, "key": 6, "value": 6}
    for path, scale in scales(quantized).items():
        assert (plain[path][before[path] == 0] == 0).all(), path
        wanted = channels.get(path.split("/")[-2], -1)
        if path.endswith("depthwise_kernel"):
            wanted = -2
        assert scale.size == (wanted if wanted > 0 else before[path].shape[wanted])
        np.testing.assert_array_equal(
            to_array(dict((v.path, v) for v in model.weights)[path]), before[path]
        )
    x = data((6, 6, 3))[0]
    found = to_array(quantized(x)), to_array(penjing.strip(quantized)(x))
    np.testing.assert_allclose(*found, atol=1e-5)  # sums in another order


def test_grids_by_layer_and_reasons():
    quantized = penjing.quantize_aware(
        net(), weights=Grid(bits=4), grids_by_layer={"head": FEW}
    )
    found = scales(quantized)
    assert found["net/hidden/kernel"].shape == (1, 20)
    assert found["net/head/kernel"].shape == ()
    plain = check_grids(quantized, 7)
    assert np.unique(plain["net/head/kernel"]).size <= 7
    reasons = quantized.skipped_weights()
    assert reasons["net/hidden/bias"] == "a bias, a scale or another vector"
    narrow = keras.Sequential(
        [keras.Input((1,)), layers.Dense(5, name="a"), layers.Dense(2, name="b")]
    )
    reasons = penjing.quantize_aware(narrow).skipped_weights()
    assert "one value, which needs no scale" in reasons["sequential/a/kernel"]


def test_shared_values_stay_shared():
    pruned = penjing.prune(net(), OneShot(0.5))
    pruned(data()[0], training=True)
    quantized = penjing.quantize_aware(penjing.cluster(pruned, 4))
    for kernel in check_grids(quantized, 127).values():
        assert np.unique(kernel).size <= 5
        assert (kernel == 0).mean() >= 0.5
    steps(quantized, 3)
    for kernel in check_grids(quantized, 127).values():
        assert np.unique(kernel).size <= 5
        assert (kernel == 0).mean() >= 0.5


@keras.saving.register_keras_serializable(package="test_rounded_activations")
class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)


@pytest.mark.once
def test_models_with_code_of_their_own_get_weight_grids():
    model = Own()
    model.build((None, 6))
    with pytest.warns(CompressionWarning, match="only its weights are trained on gri"):
        quantized = penjing.quantize_aware(model, activations="int8")
    assert quantized.activations is None
    assert quantized.transforms


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activations": 8}, "`activations` must be None, 'int8' or a penjing.Grid"),
        ({"activations": Grid(bits=4)}, "must have 8 bits and no `levels`"),
        ({"activations": Grid(levels=15)}, "must have 8 bits and no `levels`"),
        ({"calibration_data": np.ones((2, 6))}, "but `activations` is None"),
        ({"activations": "int8", "observer": "max"}, "`observer` must be one of"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        penjing.quantize_aware(net(), **arguments)


@pytest.mark.once
def test_refusals_of_models():
    with pytest.raises(penjing.UnsupportedModelError, match="is not built, so its act"):
        penjing.quantize_aware(keras.Sequential([layers.Dense(3)]), activations="int8")
    normed = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8), layers.BatchNormalization()]
    )
    with pytest.raises(penjing.UnsupportedModelError, match="Fold first: penjing.clu"):
        penjing.quantize_aware(penjing.cluster(normed, 4), activations="int8")
