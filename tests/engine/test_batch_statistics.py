"""Averages of batch normalization on data, against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

import penjing
from penjing.errors import DataError, UnsupportedModelError


def net(frozen=False):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dropout(0.9, name="drop"),
            layers.BatchNormalization(name="first", momentum=0.5),
            layers.Dense(4, name="dense"),
            layers.BatchNormalization(name="second"),
        ],
        name="net",
    )
    model.get_layer("second").trainable = not frozen
    return model


def data(count=256 + 40):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, 3)) * [1, 2, 3] + [0, 1, 5]).astype("float32")


def normalized(values, epsilon=1e-3):
    return (values - values.mean(axis=0)) / np.sqrt(values.var(axis=0) + epsilon)


def test_statistics_are_the_means_of_those_of_the_batches():
    model = net()
    before = [to_array(v) for v in model.variables]
    x = data()
    fitted = penjing.reestimate_batch_normalization(model, (x, None))
    batches = [x[:128], x[128:256], x[256:]]
    first = fitted.get_layer("first")
    expected = np.mean([b.mean(axis=0) for b in batches], axis=0)
    np.testing.assert_allclose(to_array(first.moving_mean), expected, rtol=1e-4)
    expected = np.mean([b.var(axis=0) for b in batches], axis=0)
    np.testing.assert_allclose(to_array(first.moving_variance), expected, rtol=1e-4)
    # The second one sees what the first makes of each batch, without dropout.
    kernel = to_array(model.get_layer("dense").kernel)
    inner = [normalized(batch) @ kernel for batch in batches]
    expected = np.mean([b.var(axis=0) for b in inner], axis=0)
    found = to_array(fitted.get_layer("second").moving_variance)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, to_array(variable))
    assert first.momentum == 0.5
    assert "call" not in vars(first)


@pytest.mark.once
def test_frozen_normalizations_keep_their_statistics():
    fitted = penjing.reestimate_batch_normalization(net(frozen=True), data())
    assert not to_array(fitted.get_layer("second").moving_mean).any()
    assert to_array(fitted.get_layer("first").moving_mean).any()


def test_all_calls_of_a_shared_normalization_weigh_alike():
    norm = layers.BatchNormalization()
    inputs = [keras.Input((3,)) for _ in range(2)]
    model = keras.Model(inputs, layers.Add()([norm(one) for one in inputs]))
    x = data(256)
    fitted = penjing.reestimate_batch_normalization(model, ([x, 3 * x], None))
    found = to_array(fitted.layers[2].moving_mean)
    np.testing.assert_allclose(found, 2 * x.mean(axis=0), rtol=1e-3)


@pytest.mark.once
def test_only_so_many_batches_of_a_loader_are_read():
    x = data()
    loader = ((x[i : i + 10], None) for i in range(0, 100, 10))
    fitted = penjing.reestimate_batch_normalization(net(), loader, batches=2)
    expected = np.mean([x[:10].mean(axis=0), x[10:20].mean(axis=0)], axis=0)
    found = to_array(fitted.get_layer("first").moving_mean)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert len(list(loader)) in (7, 8)


@pytest.mark.once
def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(DataError, match="`data` is empty"):
        penjing.reestimate_batch_normalization(net(), [])
    with pytest.raises(DataError, match="got int"):
        penjing.reestimate_batch_normalization(net(), 3)
    with pytest.raises(DataError, match="'net' cannot run on `data`: "):
        penjing.reestimate_batch_normalization(net(), data()[:, :2])
    with pytest.raises(DataError, match="'first' normalizes is NaN or infinite"):
        penjing.reestimate_batch_normalization(net(), data() * np.nan)
    with pytest.raises(ValueError, match="`batches` must be .* got 0"):
        penjing.reestimate_batch_normalization(net(), data(), batches=0)
    pruned = penjing.prune(net(), penjing.OneShot(0.5))
    with pytest.raises(UnsupportedModelError, match="or strip it first"):
        penjing.reestimate_batch_normalization(pruned, data())
