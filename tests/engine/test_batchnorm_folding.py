"""Batch normalization folded: the same outputs, zeros that stay, what is left alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

import penjing
from penjing import OneShot


def norm(name, **kwargs):
    return layers.BatchNormalization(name=name, **kwargs)


def shaken(model):
    """The model with weights and statistics as after training, and some zeros."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        values = rng.normal(size=variable.shape)
        if variable.name == "moving_variance":
            values = np.abs(values) + 0.1
        if variable.name.endswith("kernel"):
            values = np.where(np.abs(values) < 0.5, 0, values)
        variable.assign(values.astype("float32"))
    return model


def every_fold():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, use_bias=False, name="conv")(image)
    x = layers.ReLU()(norm("a")(x))
    x = norm("b", scale=False)(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))
    x = norm("c", center=False)(layers.SeparableConv2D(5, 1, name="sep")(x))
    block = keras.Sequential(
        [keras.Input((4, 4, 5)), layers.Conv2DTranspose(6, 2), norm("d")], name="block"
    )
    x = layers.Flatten()(block(x))
    return keras.Model(image, norm("e")(layers.Dense(4, name="dense")(x)), name="all")


def test_outputs_zeros_and_paths_stay():
    model = shaken(every_fold())
    folded = penjing.fold_batch_normalization(model)
    names = [type(layer).__name__ for layer in folded._flatten_layers()]
    assert "BatchNormalization" not in names
    assert folded.name == "all" and folded.inputs[0].name == "image"
    x = np.random.default_rng(1).normal(size=(8, 8, 8, 3)).astype("float32")
    wanted = to_array(model(x))
    # Sums of some hundred products in another order.
    np.testing.assert_allclose(to_array(folded(x)), wanted, rtol=1e-4, atol=1e-4)
    before = {v.path: to_array(v) for v in model.weights}
    after = {v.path: to_array(v) for v in folded.weights}
    assert set(after) - set(before) == {"conv/bias"}
    for path, values in after.items():
        if path.endswith("kernel"):
            np.testing.assert_array_equal(values == 0, before[path] == 0)
            assert not np.signbit(values[values == 0]).any()
    scale = before["a/gamma"] / np.sqrt(before["a/moving_variance"] + 1e-3)
    np.testing.assert_allclose(
        after["conv/bias"],
        before["a/beta"] - before["a/moving_mean"] * scale,
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        after["conv/kernel"], before["conv/kernel"] * scale, rtol=1e-6
    )


@pytest.mark.once
def test_what_cannot_be_folded_stays():
    image = keras.Input((8, 8, 3))
    conv = layers.Conv2D(4, 3, name="shared")
    x = layers.Concatenate()([norm("a")(conv(image)), conv(image)])
    x = norm("b")(x)
    x = norm("c")(layers.Conv2D(4, 3, activation="relu")(x))
    y = layers.Conv2D(4, 1)(x)
    model = keras.Model(image, [norm("d")(y), y])
    assert penjing.fold_batch_normalization(model) is model


@pytest.mark.costly_on_jax
def test_masks_stay_when_a_pruned_model_is_folded():
    model = shaken(every_fold())
    pruned = penjing.prune(model, OneShot(0.75))
    x = np.random.default_rng(1).normal(size=(8, 8, 8, 3)).astype("float32")
    pruned(x, training=True)
    folded = penjing.fold_batch_normalization(pruned)
    assert int(to_array(folded.step)) == 1
    before = {v.path: to_array(v) for v in penjing.strip(pruned).weights}
    after = {v.path: to_array(v) for v in penjing.strip(folded).weights}
    kernel = "dense/kernel"
    np.testing.assert_array_equal(after[kernel] == 0, before[kernel] == 0)
    assert (after[kernel] == 0).mean() >= 0.75


@pytest.mark.once
def test_refusals():
    model = shaken(every_fold())
    with pytest.raises(penjing.UnsupportedModelError, match="is being clustered alrea"):
        penjing.fold_batch_normalization(penjing.cluster(model, 4))
    plain = keras.Sequential([layers.Dense(3)])
    with pytest.raises(penjing.UnsupportedModelError, match="must be a built Sequen"):
        penjing.fold_batch_normalization(plain)


def test_weights_within_layers_keep_their_paths():
    inputs = keras.Input((5, 8))
    x = keras.layers.Conv1D(4, 2)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Bidirectional(keras.layers.LSTM(3))(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    pruned = penjing.prune(model, penjing.OneShot(0.5))
    folded = penjing.fold_batch_normalization(pruned)
    assert {*folded.transforms[0].weights_by_path} == {
        *pruned.transforms[0].weights_by_path
    }


def test_adapters_before_a_normalization_stay():
    dense = keras.layers.Dense(4)
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((3,)), dense, norm])
    dense.enable_lora(2)
    assert norm.name in {
        layer.name for layer in penjing.fold_batch_normalization(model).layers
    }


def test_where_no_copy_may_be_made_nothing_is_folded():
    layers = [keras.layers.Dense(4), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((3,)), *layers])
    with pytest.raises(penjing.UnsupportedModelError, match="copy=True"):
        penjing.quantize_aware(model, activations="int8", copy=False)
