"""Which groups are cut: those that are named, and not excluded."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from penjing.channels.choice import choose_groups
from penjing.channels.tracing import trace_channels
from penjing.errors import UnsupportedModelError

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def graph():
    inputs = keras.Input((4,))
    x = layers.Dense(8, name="first")(inputs)
    x = x + layers.Dense(8, name="beside")(layers.ReLU()(x))
    x = layers.Dense(6, name="second")(x)
    return trace_channels(keras.Model(inputs, layers.Dense(2, name="head")(x)))


def chosen(graph, **filters):
    return [group.name for group in choose_groups(graph, **filters)]


def test_all_that_can_be_cut_is_by_default(graph):
    assert chosen(graph) == ["first", "second"]


@pytest.mark.parametrize("entry", ["beside", "besid*", ["beside"]])
def test_a_group_is_taken_by_any_layer_that_makes_it(graph, entry):
    assert chosen(graph, include=entry) == ["first"]


def test_a_layer_names_itself(graph):
    assert chosen(graph, include=[graph.model.get_layer("second")]) == ["second"]


def test_exclude_wins(graph):
    assert chosen(graph, include="*", exclude="beside") == ["second"]
    with pytest.raises(UnsupportedModelError, match="no channels that can be cut and"):
        chosen(graph, include="second", exclude="second")


def test_what_cannot_be_cut_is_refused_with_its_reason(graph):
    message = "'head', whose channels cannot be cut. head: it is an output"
    with pytest.raises(UnsupportedModelError, match=message):
        chosen(graph, include="head")


def test_a_reason_that_many_layers_share_is_said_once():
    class Own(layers.Layer):
        def call(self, x):
            return x

    x = inputs = keras.Input((4,))
    for place in range(9):
        x = Own(name=f"own{place}")(layers.Dense(4, name=f"dense{place}")(x))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    with pytest.raises(UnsupportedModelError) as caught:
        choose_groups(trace_channels(model))
    said = str(caught.value)
    assert said.count("not in the table of channel rules") == 1
    assert "dense0, dense1, dense2 and 15 more: each of class Own is not" in said
    assert "head: it is an output" in said


def test_what_is_not_there_is_refused_with_what_is(graph):
    message = r"`exclude` names 'secnd', .*Did you mean 'second'\?.*'first'"
    with pytest.raises(UnsupportedModelError, match=message):
        chosen(graph, exclude="secnd")
