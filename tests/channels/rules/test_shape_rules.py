"""Where channels come when values are moved, joined, split and cut."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.channels.traced import between, groups_of, reasons, units

pytestmark = pytest.mark.once


def read_by(change, shape=(5, 3)):
    """Units of "made" as the kernel of "read" sees them."""
    return units(groups_of(between(change, shape))["made"], "read/kernel", 0)


def test_flattened_values_belong_to_their_channel():
    assert read_by(lambda x: x) == [0, 1, 2, 3, 4, 5] * 5


@pytest.mark.parametrize(
    "change",
    [
        layers.Permute((2, 1)),
        lambda x: ops.transpose(x, (0, 2, 1)),
        lambda x: ops.swapaxes(x, -1, -2),
    ],
)
def test_a_moved_axis_is_flattened_at_its_place(change):
    assert read_by(change) == [unit for unit in range(6) for _ in range(5)]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: ops.squeeze(ops.expand_dims(x, (1, -1)), (1, 4)),
        lambda x: layers.Reshape((5, 1, 6))(x),
        lambda x: ops.reshape(x, (-1, 5, 6)),
        lambda x: ops.sum(x, axis=1, keepdims=True) + x,
    ],
)
def test_axes_that_come_and_go_change_nothing(change):
    assert read_by(change) == [0, 1, 2, 3, 4, 5] * 5


def test_a_reduction_takes_its_axis_away():
    assert read_by(lambda x: ops.mean(x, axis=1)) == [0, 1, 2, 3, 4, 5]
    assert read_by(lambda x: ops.max(x, axis=-2)) == [0, 1, 2, 3, 4, 5]


def test_a_vector_is_repeated():
    found = read_by(lambda x: layers.RepeatVector(2)(ops.sum(x, axis=1)))
    assert found == [0, 1, 2, 3, 4, 5] * 2


def test_channels_that_a_reshape_ties_fall_together():
    """12 channels become 3 positions of 4: those of one of the 4 are one unit."""
    inputs = keras.Input((3,))
    x = layers.Dense(12, name="made")(inputs)
    x = layers.Conv1D(2, 1, name="conv")(layers.Reshape((3, 4))(x))
    group = groups_of(keras.Model(inputs, x))["made"]
    assert group.size == 4
    assert units(group, "made/kernel", 1) == [0, 1, 2, 3] * 3
    assert units(group, "conv/kernel", 1) == [0, 1, 2, 3]


def test_along_the_channels_concatenation_lays_ids_in_a_row():
    inputs = keras.Input((3,))
    one, other = (layers.Dense(n, name=f"of_{n}")(inputs) for n in (2, 3))
    x = layers.Dense(2, name="read")(layers.Concatenate()([one, other, one]))
    found = groups_of(keras.Model(inputs, x))
    assert units(found["of_2"], "read/kernel", 0) == [0, 1, -1, -1, -1, 0, 1]
    assert units(found["of_3"], "read/kernel", 0) == [-1, -1, 0, 1, 2, -1, -1]


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: layers.Concatenate(axis=1)([a, b]),
        lambda a, b: ops.stack([a, b], axis=1),
        lambda a, b: ops.stack([a, b], axis=-1),
    ],
)
def test_along_another_axis_joined_channels_are_tied(join):
    inputs = keras.Input((5, 3))
    one, other = (layers.Dense(4, name=name)(inputs) for name in ("one", "other"))
    x = layers.Dense(2, name="read")(layers.Flatten()(join(one, other)))
    found = groups_of(keras.Model(inputs, x))
    assert found["one"].layers == ("one", "other")
    assert found["one"].size == 4


def test_parts_of_a_split_are_followed_and_equal_ones_tied():
    def halves(x):
        first, second = ops.split(x, 2, axis=-1)
        return first + second

    group = groups_of(between(halves))["made"]
    assert units(group, "made/kernel", 1) == [0, 1, 2, 0, 1, 2]

    def uneven(x):
        return ops.split(x, [2], axis=-1)[1]

    group = groups_of(between(uneven))["made"]
    assert units(group, "read/kernel", 0)[:4] == [2, 3, 4, 5]


def test_a_slice_takes_a_part_of_the_ids():
    assert read_by(lambda x: x[..., 2:5])[:3] == [2, 3, 4]
    assert read_by(lambda x: x[:, 0, 1:])[:5] == [1, 2, 3, 4, 5]
    assert read_by(lambda x: x[:, 1:3]) == [0, 1, 2, 3, 4, 5] * 2


def test_padded_channels_are_constants_between_those_that_go():
    found = read_by(lambda x: ops.pad(x, ((0, 0), (0, 0), (1, 2))))
    assert found[:9] == [-1, 0, 1, 2, 3, 4, 5, -1, -1]
    assert read_by(lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0))))[:6] == list(range(6))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: ops.transpose(x, (1, 0, 2)), "moves the batch axis"),
        (lambda x: ops.swapaxes(x, 0, 1), "moves the batch axis"),
        (lambda x: ops.squeeze(x[:, :1]), "names no axis"),
        (lambda x: ops.sum(x), "reads all its channels at once"),
        (lambda x: ops.std(x, axis=(1, 2)), "reads all its channels at once"),
        (
            lambda x: ops.pad(x, ((0, 0), (0, 0), (1, 1)), "reflect"),
            "mirrors chann",
        ),
        (lambda x: x[..., ::2], "picks single channels"),
        (lambda x: x[..., 0], "picks single channels"),
        (
            lambda x: ops.concatenate([x, np.ones((2, 5, 4), "float32")], axis=-1),
            "takes a constant array",
        ),
        (
            lambda x: ops.stack([x, ops.reshape(ops.swapaxes(x, 1, 2), (2, 5, 6))]),
            "stays whole|different channel axes|joins|sizes",
        ),
    ],
)
def test_channels_stay_where_they_cannot_be_followed(change, reason):
    inputs = keras.Input((5, 3), batch_size=2)
    x = change(layers.Dense(6, name="made")(inputs))
    why = reasons(keras.Model(inputs, ops.reshape(x, (1, -1))))
    assert why["made"] is not None
    assert re.search(f"{reason}|output of the model", why["made"])
