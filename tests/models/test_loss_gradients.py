"""Gradients without training, against derivatives worked out by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from penjing.errors import DataError, UnsupportedModelError
from penjing.models.loss_gradients import loss_gradients


def net(loss="mse"):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activation="relu", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.9, name="drop"),
            layers.Dense(2, name="head"),
        ],
        name="net",
    )
    model.get_layer("norm").moving_variance.assign(np.array([1, 2, 3, 4], "float32"))
    model.get_layer("hidden").trainable = False
    model.compile("sgd", loss)
    return model


def batch(count=5, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, 3)), rng.normal(size=(count, 2))
    return x.astype("float32"), y.astype("float32"), None


@pytest.mark.parametrize(
    ("outputs", "loss"),
    [
        (list, ["mse", "mae"]),
        (list, {"a": "mse", "b": "mae"}),
        (dict, {"a": "mse", "b": "mae"}),
    ],
)
def test_several_outputs_have_gradients_too(outputs, loss):
    inputs = keras.Input((3,))
    made = {name: layers.Dense(2, name=name)(inputs) for name in "ab"}
    given = made if outputs is dict else [made["a"], made["b"]]
    model = keras.Model(inputs, given)
    model.compile("sgd", loss)
    x, y, _ = batch()
    labels = {"a": y, "b": y} if outputs is dict else [y, y]
    path = model.get_layer("b").kernel.path
    (found,) = loss_gradients(model, [(x, labels, None)], [path])
    weights = [
        np.asarray(keras.ops.convert_to_numpy(w)) for w in model.get_layer("b").weights
    ]
    signs = np.sign(x @ weights[0] + weights[1] - y) / y.size
    np.testing.assert_allclose(found[path], x.T @ signs, rtol=1e-4, atol=1e-6)


def by_hand(model, x, y):
    """The mean squared error's derivative by both kernels, in inference mode."""
    hidden, norm, _, head = model.layers
    w, b = (np.asarray(keras.ops.convert_to_numpy(v)) for v in hidden.weights)
    v, c = (np.asarray(keras.ops.convert_to_numpy(v)) for v in head.weights)
    variance = keras.ops.convert_to_numpy(norm.moving_variance)
    factor = 1 / np.sqrt(variance + norm.epsilon)
    z = x @ w + b
    a = np.maximum(z, 0) * factor
    slope = 2 * (a @ v + c - y) / y.size
    return x.T @ (slope @ v.T * factor * (z > 0)), a.T @ slope


@pytest.fixture(scope="module")
def observed():
    model = net()
    before = [keras.ops.convert_to_numpy(v.value) for v in model.variables]
    batches = [batch(), batch(seed=1)]
    paths = [v.path for v in model.weights if v.path.endswith("kernel")]
    return model, before, batches, list(loss_gradients(model, batches, paths))


def test_each_batch_gives_the_derivatives_of_its_own_loss(observed):
    model, _, batches, found = observed
    for (x, y, _), gradients in zip(batches, found, strict=True):
        for got, expected in zip(gradients.values(), by_hand(model, x, y), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_the_model_stays_as_it_was(observed):
    model, before, _, _ = observed
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(variable.value))
    assert not model.get_layer("hidden").trainable
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert all(getattr(v.value, "grad", None) is None for v in model.variables)


@pytest.mark.once
def test_a_model_without_a_loss_is_refused_with_the_way_out():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)], name="bare")
    with pytest.raises(UnsupportedModelError, match="'bare' is not compiled .* \"l2\""):
        next(loss_gradients(model, [], []))


@pytest.mark.once
@pytest.mark.parametrize(("features", "target"), [(7, 1.0), (3, np.nan)])
def test_data_that_does_not_fit_is_refused(features, target):
    x, y = np.ones((4, features), "float32"), np.full((4, 2), target)
    with pytest.raises(DataError, match="'net' .* on `data`"):
        next(loss_gradients(net(), [(x, y, None)], []))
