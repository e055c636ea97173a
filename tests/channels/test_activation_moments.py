"""Variances of what units hand on, against NumPy's."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.channels.channel_cases import disturb

from penjing.channels.activation_moments import activation_variances
from penjing.channels.tracing import trace_channels
from penjing.errors import DataError


def free_groups(model):
    return [g for g in trace_channels(model).groups if g.reason is None]


def images(size=12):
    return np.random.default_rng(0).normal(size=(size, 4, 4, 2)).astype("float32")


def convolutions():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 2, activation="relu", name="made")(inputs)
    x = layers.Conv2D(4, 2, name="second")(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))
    disturb(model)
    return model


def test_variances_are_those_of_what_readers_get():
    model, x = convolutions(), images()
    found = activation_variances(model, free_groups(model), [x[:5], x[5:]])
    for name in ("made", "second"):
        part = keras.Model(model.input, model.get_layer(name).output)
        values = ops.convert_to_numpy(part(x))
        if name == "made":
            expected = values.reshape(-1, 3).var(axis=0)
        else:  # behind Flatten a unit is the mean of its four places
            expected = values.reshape(-1, 4, 4).var(axis=0).mean(axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-4)


@pytest.mark.once
def test_the_model_stays_as_it_is_and_what_nobody_reads_is_what_is_made():
    inputs = keras.Input((3,))
    x = layers.Dense(4, name="made")(inputs)
    model = keras.Model(inputs, layers.ReLU()(x)[:, :2])
    disturb(model)
    before = [ops.convert_to_numpy(w) for w in model.weights]
    x = np.random.default_rng(0).normal(size=(30, 3)).astype("float32")
    (name,) = [g.name for g in free_groups(model)]
    found = activation_variances(model, free_groups(model), [x])[name]
    expected = (x @ before[0] + before[1]).var(axis=0)[2:]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)


@pytest.mark.once
def test_embeddings_that_no_dense_layer_reads_have_none():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.LSTM(2)(layers.Embedding(9, 4, name="table")(inputs))
    model = keras.Model(inputs, x)
    groups = [g for g in free_groups(model) if g.name == "table"]
    batch = np.zeros((2, 5), "int32")
    assert activation_variances(model, groups, [batch]) == {"table": None}


@pytest.mark.once
def test_values_that_are_no_numbers_are_refused():
    model, x = convolutions(), images()
    x[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="channels of 'made' are NaN or infinite"):
        activation_variances(model, free_groups(model)[:1], [x])
