"""The table of how LiteRT's int8 kernels run operations."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from penjing.engine.activations.integer_kinds import (
    FIXED_GRIDS,
    Kind,
    activation_of,
    function_name,
    kind_of,
)

pytestmark = pytest.mark.once


class Own(layers.Layer):
    """A layer of which nothing is known."""


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (layers.Dense(2), Kind.COMPUTED),
        (layers.Conv2D(2, 3, dilation_rate=2), Kind.COMPUTED),
        (layers.Conv1D(2, 3, dilation_rate=2), Kind.FLOAT),
        (layers.Conv2D(2, 3, data_format="channels_first"), Kind.FLOAT),
        (layers.Add(), Kind.COMPUTED),
        (layers.GlobalAveragePooling2D(), Kind.COMPUTED),
        (layers.AveragePooling2D(2), Kind.ROUNDED),
        (layers.UpSampling2D(interpolation="bilinear"), Kind.ROUNDED),
        (layers.UpSampling2D(), Kind.SHARED),
        (layers.Flatten(), Kind.SHARED),
        (layers.Activation("linear"), Kind.SHARED),
        (layers.Concatenate(), Kind.JOINED),
        (layers.ReLU(), Kind.RECTIFIER),
        (layers.ReLU(6.0), Kind.RECTIFIER),
        (layers.ReLU(negative_slope=0.1), Kind.FLOAT),
        (layers.Softmax(), Kind.FIXED),
        (layers.Softmax(axis=1), Kind.FLOAT),
        (layers.Activation("tanh"), Kind.FIXED),
        (layers.Activation("silu"), Kind.COMPUTED),
        (layers.Activation("gelu"), Kind.FLOAT),
        (layers.LSTM(2), Kind.FLOAT),
        (Own(), Kind.FLOAT),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else type(value).__name__,
)
def test_the_kind_of_an_operation(operation, kind):
    assert kind_of(operation, inputs=2) is kind


def test_a_sum_of_three_runs_in_float():
    assert kind_of(layers.Add(), inputs=3) is Kind.FLOAT


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.Dense(2, activation="relu"), "relu"),
        (layers.Dense(2, activation="silu"), "silu"),
        (layers.Dense(2, activation="elu"), "other"),
        (layers.Dense(2), "linear"),
        (layers.ReLU(6.0), "relu6"),
        (layers.ReLU(3.0), "other"),
        (layers.ReLU(threshold=1.0), "other"),
        (layers.Flatten(), None),
    ],
)
def test_the_function_that_is_applied_last(layer, name):
    assert activation_of(layer) == name


def test_functions_are_known_by_what_they_are():
    assert function_name(None) == "linear"
    for name in FIXED_GRIDS:
        assert function_name(getattr(keras.activations, name)) == name
    assert function_name(abs) == "other"
