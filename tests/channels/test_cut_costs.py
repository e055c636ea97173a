"""Costs of a cut are those of the model that is built."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from penjing.channels.cut_costs import CutCosts
from penjing.channels.removal import remove_channels
from penjing.channels.tracing import trace_channels

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def graph():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="first")(inputs)
    x = layers.DepthwiseConv2D(3, name="each")(layers.BatchNormalization()(x))
    y = layers.Conv2D(4, 1, name="second")(x)
    x = layers.Concatenate()([x, y])
    x = layers.Dense(2, name="head")(layers.Flatten()(x))
    return trace_channels(keras.Model(inputs, x))


@pytest.fixture
def kept(graph):
    halves = {"first": np.arange(8) % 2 == 0, "second": np.arange(4) == 1}
    assert {g.name for g in graph.groups if g.reason is None} == set(halves)
    return halves


def test_parameters_are_those_of_the_smaller_model(graph, kept):
    costs = CutCosts(graph.model, graph)
    small = remove_channels(graph.model, graph, kept)
    assert costs.parameters(kept) == pytest.approx(small.count_params())
    assert costs.parameters({}) == graph.model.count_params()


def test_fractions_of_each_axis(graph, kept):
    costs = CutCosts(graph.model, graph)
    assert costs.fractions("second/kernel", kept) == {2: 0.5, 3: 0.25}
    head = costs.fractions("head/kernel", kept)
    assert head == {0: pytest.approx((4 + 1) / 12)}, "two groups on one axis"
    assert costs.fractions("first/kernel", {}) == {}


def test_what_reads_and_what_makes(graph, kept):
    found = CutCosts(graph.model, graph).input_and_output(kept)
    assert found["first/kernel"] == (1, 0.5)
    assert found["second/kernel"] == (0.5, 0.25)
    assert found["each/kernel"] == (0.5, 0.5), "each channel by itself"
    assert found["head/kernel"] == (pytest.approx(5 / 12), 1)


def test_amounts_shrink_with_the_axes_of_their_weight(graph, kept):
    costs = CutCosts(graph.model, graph)
    assert costs.weighted({"second/kernel": 800, "head/bias": 7}, kept) == 107
