"""A stand-in runs otherwise; the layer that it stands for shows nothing of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from penjing.models.stand_ins import stand_in

pytestmark = pytest.mark.once


def dense():
    layer = keras.layers.Dense(2, activation="relu", kernel_initializer="ones")
    layer.build((None, 3))
    return layer


def test_it_runs_with_its_own_attributes_and_the_weights_of_the_layer():
    layer, x = dense(), -np.ones((1, 3), "float32")
    linear = stand_in(layer, activation=keras.activations.linear)
    assert ops.convert_to_numpy(linear(x)).tolist() == [[-3.0, -3.0]]
    assert ops.convert_to_numpy(layer(x)).tolist() == [[0.0, 0.0]]
    layer.kernel.assign(np.zeros((3, 2)))
    assert ops.convert_to_numpy(linear(x)).tolist() == [[0.0, 0.0]]
    assert layer.activation is keras.activations.relu


def test_what_it_sets_the_layer_has_but_for_its_own_attributes():
    layer = dense()
    other = stand_in(layer, activation=None)
    other.note, other.activation = "set", "own"
    assert (layer.note, layer.activation) == ("set", keras.activations.relu)
    assert other.activation == "own"


def test_it_is_of_the_class_and_name_of_the_layer():
    layer = dense()
    other = stand_in(layer, activation=keras.activations.linear)
    assert isinstance(other, keras.layers.Dense)
    assert other.__class__ is keras.layers.Dense
    assert other.get_config()["name"] == layer.name
    assert type(other).__name__ == "Dense"


def test_a_stand_in_of_a_stand_in_has_the_attributes_of_both():
    first = stand_in(dense(), activation="first", units=5)
    second = stand_in(first, activation="second")
    assert (second.activation, second.units) == ("second", 5)
    assert first.activation == "first"
