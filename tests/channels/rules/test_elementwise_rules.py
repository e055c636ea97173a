"""What handles each channel by itself passes it on; what joins channels ties them."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.channels.traced import between, groups_of, reasons, units

pytestmark = pytest.mark.once


def joined(join, left=(4,), right=(4,), shape=(4,)):
    """Two dense layers of the given widths, joined."""
    inputs = keras.Input(shape)
    one = layers.Dense(left[-1], name="one")(inputs)
    other = layers.Dense(right[-1], name="other")(inputs)
    x = layers.Dense(2, name="read")(layers.Flatten()(join(one, other)))
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: a + b,
        lambda a, b: ops.maximum(a, b),
        lambda a, b: layers.Multiply()([a, b]),
    ],
)
def test_channels_that_are_joined_fall_together(join):
    found = groups_of(joined(join))
    assert list(found) == ["one", "read"]
    assert found["one"].layers == ("one", "other")
    assert units(found["one"], "other/kernel", 1) == [0, 1, 2, 3]


def test_one_channel_that_is_spread_over_many_stays():
    why = reasons(joined(lambda a, b: a * b, left=(4,), right=(1,)))
    assert why["one"] is None
    assert why["other"] == "the operation Multiply spreads it over many channels"


def test_what_is_joined_with_an_input_stays():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="made")(inputs) + inputs
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert reasons(model)["made"] == (
        "the operation Add joins it with what stays whole: it is an input of the model"
    )


def test_channels_that_are_spread_along_other_axes_are_tied():
    inputs, vector = keras.Input((5, 3)), keras.Input((3,))
    x = layers.Dense(4, name="many")(inputs)
    y = layers.Dense(4, name="few")(vector)
    model = keras.Model([inputs, vector], layers.Dense(2)(x + ops.expand_dims(y, 1)))
    both = [g for g in groups_of(model).values() if len(g.layers) == 2]
    assert [set(group.layers) for group in both] == [{"many", "few"}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x * np.arange(6.0), "constant array over its channels"),
        (layers.Activation("softmax"), "activation 'softmax' mixes"),
        (layers.Rescaling([1.0] * 6, name="x"), "'x' .* has a factor for each channel"),
        (layers.Dropout(0.5, noise_shape=(2, 1, 6), name="x"), "`noise_shape` of 'x'"),
        (layers.LayerNormalization(name="x"), "'x' .* mixes its channels"),
        (layers.LayerNormalization(axis=(1, 2), name="x"), "'x' .* mixes its channels"),
        (layers.Softmax(axis=None, name="x"), "'x' .* mixes its channels"),
        (layers.GroupNormalization(1, name="x"), "'x' .* normalizes over its channels"),
        (
            layers.BatchNormalization(axis=1, name="x"),
            "'x' .* along another axis",
        ),
        (
            layers.ZeroPadding1D(data_format="channels_first"),
            "along another axis",
        ),
    ],
)
def test_channels_stay_where_one_touches_another(change, reason):
    why = reasons(between(change, batch=2))
    assert re.search(reason, str(why["made"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * 2.0,
        lambda x: x + np.ones((1, 1, 1), "float32"),
        layers.ReLU(),
        layers.Activation("gelu"),
        layers.Rescaling(2.0, 1.0),
        layers.Dropout(0.5),
        layers.Dropout(0.5, noise_shape=(2, 1, 1)),
        layers.LayerNormalization(axis=1),
        layers.Softmax(axis=1),
        layers.MaxPooling1D(2),
        layers.ZeroPadding1D(1),
        layers.GlobalAveragePooling1D(),
        layers.GlobalMaxPooling1D(keepdims=True),
    ],
)
def test_channels_go_where_each_is_by_itself(change):
    found = groups_of(between(change, batch=2))
    assert found["made"].reason is None
    assert found["made"].size == 6


def test_a_normalization_has_four_numbers_for_each_channel():
    group = groups_of(between(layers.BatchNormalization(name="norm")))["made"]
    roles = [m.role for m in group.members if m.path.startswith("norm/")]
    assert sorted(roles) == ["offset", "scale", "statistic", "statistic"]
    assert units(group, "norm/moving_mean", 0) == list(range(6))


def test_of_a_group_normalization_whole_groups_fall():
    group = groups_of(between(layers.GroupNormalization(3, name="norm")))["made"]
    assert group.size == 3
    assert units(group, "made/kernel", 1) == [0, 0, 1, 1, 2, 2]
    assert units(group, "norm/gamma", 0) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("shared", "carried"), [((1,), True), ((1, 2), False)])
def test_slopes_are_carried_unless_all_channels_share_one(shared, carried):
    group = groups_of(between(layers.PReLU(shared_axes=shared, name="slope")))["made"]
    assert any(m.path == "slope/alpha" for m in group.members) is carried
    assert group.reason is None
