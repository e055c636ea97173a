"""Ids of channels become groups, units and the places where they lie."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.channels.traced import groups_of, units

from penjing.channels.groups import (
    describe_groups,
    divide_channels,
    kernels_of,
    unit_slices,
)
from penjing.channels.rules.trace import ChannelTrace

pytestmark = pytest.mark.once


def divided(trace):
    labels = trace.units.labels()
    why, reasons = trace.units.reasons(labels)
    group_of, unit_of = divide_channels(trace, labels, why)
    return group_of, unit_of, describe_groups(trace, group_of, unit_of, why, reasons)


def test_tied_ids_are_a_unit_and_what_a_layer_makes_a_group():
    trace = ChannelTrace()
    a, b = (trace.make(name, "", 4, name, 1) for name in "ab")
    trace.units.tie(a[:2], a[2:])
    group_of, unit_of, groups = divided(trace)
    assert group_of.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert unit_of[a].tolist() == [0, 1, 0, 1] and unit_of[b].tolist() == [0, 1, 2, 3]
    assert [(g.name, g.size, g.width) for g in groups] == [("a", 2, 2), ("b", 4, 1)]


def test_layers_whose_channels_are_tied_share_a_group():
    trace = ChannelTrace()
    a, b = (trace.make(name, "", 3, name, 1) for name in "ab")
    trace.units.tie(a, b[::-1])
    _, unit_of, (group,) = divided(trace)
    assert group.layers == ("a", "b")
    assert unit_of[b].tolist() == unit_of[a].tolist()[::-1]


def test_where_some_must_stay_the_group_is_the_rest():
    trace = ChannelTrace()
    ids = trace.make("a", "", 5, "a", 1)
    trace.units.pin(ids[1:3], "they are read")
    group_of, unit_of, (group,) = divided(trace)
    assert group_of.tolist() == [0, -1, -1, 0, 0]
    assert unit_of.tolist() == [0, -1, -1, 1, 2]
    assert (group.size, group.reason) == (3, None)
    trace.units.pin(ids, "all are read")
    assert divided(trace)[2][0].reason == "all are read"


def test_the_first_ones_that_stay_say_nothing_of_the_rest():
    """Nor of the last group: ids of no group belong to none."""
    trace = ChannelTrace()
    a, b = (trace.make(name, "", 4, name, 1) for name in "ab")
    trace.units.pin(a[:2], "they are read")
    groups = divided(trace)[2]
    assert [(g.size, g.reason) for g in groups] == [(2, None), (4, None)]


def test_ids_that_nobody_makes_belong_to_no_group():
    trace = ChannelTrace()
    trace.units.new(4)
    group_of, _, groups = divided(trace)
    assert groups == () and (group_of == -1).all()


def test_kernels_and_slices_of_a_group():
    inputs = keras.Input((3,))
    x = layers.BatchNormalization(name="norm")(layers.Dense(4, name="made")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="read")(x))
    group = groups_of(model)["made"]
    found = {(m.path, m.role) for m in kernels_of(group)}
    assert found == {
        ("made/kernel", "output"),
        ("norm/gamma", "scale"),
        ("read/kernel", "input"),
    }
    assert {m.path for m in group.members if m.is_bias} == {"made/bias"}
    assert units(group, "read/kernel", 0) == [0, 1, 2, 3]
    values = {"read/kernel": np.arange(8.0).reshape(4, 2)}
    (part,) = unit_slices(kernels_of(group, ("input",)), values)
    assert part.totals(4).tolist() == [1, 5, 9, 13]
