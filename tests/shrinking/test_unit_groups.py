"""Units can change places where every operator that they meet is known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.shrinking.graphs_by_hand import dense_chain, operate, tensor

from penjing.shrinking.unit_groups import UnitGroups, offsets_of, per_unit_fields
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record

pytestmark = pytest.mark.once


def test_units_move_between_layers_that_are_tied_by_known_operators():
    assert len(UnitGroups(dense_chain(Operator.RELU)).movable()) == 1
    assert UnitGroups(dense_chain(Operator.SOFTMAX)).movable() == []
    assert UnitGroups(dense_chain(Operator.REVERSE_SEQUENCE)).movable() == []


def test_units_that_are_an_output_too_stay():
    model = dense_chain(Operator.RELU)
    graph = model["subgraphs"][0]
    graph["outputs"] = np.array([6, 3], "<i4")
    assert UnitGroups(model).movable() == []


def test_weights_that_two_layers_share_stay():
    model = dense_chain(Operator.RELU)
    operate(model, Operator.FULLY_CONNECTED, [0, 1, -1], tensor(model, [1, 6]))
    assert UnitGroups(model).movable() == []


def test_a_row_of_groups_says_where_each_begins():
    groups = UnitGroups(dense_chain(Operator.RELU))
    a, b = groups.new(2)[0], groups.new(3)[0]
    assert offsets_of((a, b, a, b), groups, b) == [2, 7]
    other = groups.new(3)
    groups.join((b,), other)
    assert offsets_of((a, *other, b), groups, groups.root(b)) == [2, 5]
    groups.join((a,), other)
    assert {a, *other} <= groups._pinned


def test_scales_go_with_units_on_their_axis_alone():
    quantization = Record(
        "QuantizationParameters",
        scale=np.ones(4, "<f4"),
        zero_point=np.zeros(1, "<i8"),
        max=np.ones(4, "<f4"),
        quantized_dimension=3,
    )
    tensor = Record("Tensor", quantization=quantization)
    assert per_unit_fields(tensor, 3) == ["scale", "max"]
    assert per_unit_fields(tensor, 0) == per_unit_fields(Record("Tensor"), 0) == []
