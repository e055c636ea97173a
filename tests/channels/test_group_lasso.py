"""Group lasso as a callback: exact steps, exact zeros, every backend's `fit`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

import penjing


def net():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="head"),
        ],
        name="net",
    )
    rng = np.random.default_rng(0)
    for name in ("hidden", "head"):
        kernel = model.get_layer(name).kernel
        kernel.assign(rng.normal(size=kernel.shape).astype("float32"))
    return model


def fit_without_gradient(lasso, batches=7, epochs=2):
    """Inputs and labels are zero, so that nothing but the callback moves a kernel."""
    model = net()
    start = {v.path: to_array(v) for v in model.weights}
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9)
    jit = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.SGD(schedule), "mse", jit_compile=jit)
    x, y = np.zeros((2 * batches, 4)), np.zeros((2 * batches, 2))
    model.fit(x, y, batch_size=2, epochs=epochs, verbose=0, callbacks=[lasso])
    return model, start


def by_hand(start, strength):
    """Each unit's root mean square over 4 + 2 weights and a scale, step by step."""
    hidden, head = start["net/hidden/kernel"].copy(), start["net/head/kernel"].copy()
    gamma = start["net/norm/gamma"].copy()
    # Steps of 3, 3 and 1 batches in each epoch, at the rates after them.
    done = 0
    for count in (3, 3, 1, 3, 3, 1):
        done += count
        threshold = strength * count * 0.1 * 0.9**done
        for unit in range(6):
            own = [*hidden[:, unit], gamma[unit], *head[unit]]
            size = np.sqrt(np.mean(np.square(own)))
            factor = max(0.0, 1 - threshold / size) if size else 0.0
            hidden[:, unit] *= factor
            gamma[unit] *= factor
            head[unit] *= factor
    return hidden, gamma, head


def test_without_a_gradient_each_unit_falls_by_the_sum_of_rates():
    strength = 1.6
    lasso = penjing.GroupLasso(strength, frequency=3)
    model, start = fit_without_gradient(lasso)
    found = [
        to_array(model.get_layer("hidden").kernel),
        to_array(model.get_layer("norm").gamma),
        to_array(model.get_layer("head").kernel),
    ]
    expected = by_hand(start, strength)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    gone = [unit for unit in range(6) if not found[0][:, unit].any()]
    assert 0 < len(gone) < 6, "the strength must tell the units apart"
    assert not found[2][gone].any() and not found[1][gone].any()
    (zeros,) = lasso.zero_units().values()
    assert zeros == len(gone)


@pytest.mark.once
def test_emptied_units_go_without_a_trace():
    model, _ = fit_without_gradient(penjing.GroupLasso(1.6, frequency=3))
    empty = int((~to_array(model.get_layer("head").kernel).any(axis=1)).sum())
    smaller = penjing.prune_channels(model, ratio=empty / 6, round_to=1)
    assert smaller.get_layer("hidden").units == 6 - empty
    x = np.random.default_rng(1).normal(size=(5, 4))
    np.testing.assert_allclose(
        to_array(smaller(x)), to_array(model(x)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.once
def test_a_strength_of_zero_changes_nothing():
    model, start = fit_without_gradient(penjing.GroupLasso(0.0), epochs=1)
    kernel = to_array(model.get_layer("hidden").kernel)
    np.testing.assert_array_equal(kernel, start["net/hidden/kernel"])


@pytest.mark.once
def test_frozen_layers_stay_as_they_are():
    model = net()
    model.get_layer("head").trainable = False
    before = {v.path: to_array(v) for v in model.weights if "kernel" in v.path}
    model.compile(keras.optimizers.SGD(0.1), "mse")
    lasso = penjing.GroupLasso(np.float32(100.0))
    x, y = np.zeros((2, 4)), np.zeros((2, 2))
    model.fit(x, y, verbose=0, callbacks=[lasso])
    for variable in model.weights:
        if variable.path in before:
            np.testing.assert_array_equal(to_array(variable), before[variable.path])
    assert lasso.zero_units() == {}


@pytest.mark.once
def test_layers_can_be_left_alone():
    with pytest.raises(penjing.UnsupportedModelError, match="'net' has no channels"):
        fit_without_gradient(penjing.GroupLasso(1.0, exclude="hidden"))


@pytest.mark.once
@pytest.mark.parametrize("strength", [-1.0, float("nan"), "strong", True])
def test_a_wrong_strength_is_refused(strength):
    with pytest.raises(ValueError, match="`strength` must be a number of at least 0"):
        penjing.GroupLasso(strength)
