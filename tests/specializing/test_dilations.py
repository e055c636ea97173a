"""Damaged files are left as they are, and LiteRT refuses them then."""

from __future__ import annotations

import numpy as np
import pytest
from tests.specializing.graphs import Graph

from penjing.specializing.dilations import join_dilations
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record

pytestmark = pytest.mark.once


def dilated(pads=((1, 1), (1, 1)), blocks=(2, 2), image=(1, 6, 6, 1)):
    """A dilated convolution in three operators."""
    graph = Graph()
    x = graph.tensor(image)
    sizes = graph.constant(blocks, "i4")
    inputs = [x, sizes, graph.constant(pads, "i4")]
    pieces = graph.tensor([4, 4, 4, 1])
    graph.add(Operator.SPACE_TO_BATCH_ND, inputs, pieces)
    kernel = graph.constant(np.ones((1, 3, 3, 1)))
    options = Record(
        "Conv2DOptions",
        padding=1,
        stride_w=1,
        stride_h=1,
        dilation_w_factor=1,
        dilation_h_factor=1,
    )
    made = graph.tensor([4, 2, 2, 1])
    graph.add(Operator.CONV_2D, [pieces, kernel, graph.constant([0.5])], made, options)
    y = graph.tensor([1, 4, 4, 1])
    inputs = [made, sizes, graph.constant(np.zeros_like(pads), "i4")]
    graph.add(Operator.BATCH_TO_SPACE_ND, inputs, y)
    return graph, x, y


def joined(graph, x, y):
    return join_dilations(load_records(graph.content([x], [y]), "file"))


def test_a_dilated_convolution_is_joined():
    assert joined(*dilated())


def test_a_circle_of_operators_has_an_end():
    graph, x, y = dilated()
    circle = graph.tensor([4, 4, 4, 1])
    (split, *_) = graph.graph["operators"]
    graph.add(Operator.RESHAPE, [circle], circle, Record("ReshapeOptions"))
    split["outputs"] = np.array([circle], "<i4")
    graph.graph["operators"][-1]["inputs"] = np.array([circle], "<i4")
    assert not joined(graph, x, y)


@pytest.mark.parametrize("place", range(3))
def test_operators_without_outputs_are_left(place):
    graph, x, y = dilated()
    graph.graph["operators"][place]["outputs"] = np.zeros(0, "<i4")
    assert not joined(graph, x, y)


@pytest.mark.parametrize(
    "fields",
    [
        {"pads": (1, 1)},
        {"pads": ((1, 1, 1), (1, 1, 1))},
        {"blocks": ((2, 2),)},
        {"blocks": (2,), "pads": ((1, 1),)},
        {"image": (36,)},
    ],
)
def test_unusual_ranks_are_left(fields):
    assert not joined(*dilated(**fields))
