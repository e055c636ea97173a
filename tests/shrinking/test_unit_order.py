"""Units in another order: the same function, in which a compressor finds more."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from tests.shrinking.graphs_by_hand import dense_chain

from penjing.shrinking import unit_order
from penjing.shrinking.unit_groups import UnitGroups
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import set_values, values_of

pytestmark = pytest.mark.once


def test_rows_columns_and_biases_move_together():
    model = dense_chain(Operator.RELU)
    before = [
        values_of(model, t)
        for t in np.array(model["subgraphs"][0]["tensors"])[[1, 2, 5]]
    ]
    group = UnitGroups(model).movable()[0]
    lot = unit_order._Lot(model, UnitGroups(model), group)
    order = np.array([3, 1, 0, 5, 4, 2])
    lot._apply(order)
    after = [
        values_of(model, t)
        for t in np.array(model["subgraphs"][0]["tensors"])[[1, 2, 5]]
    ]
    np.testing.assert_array_equal(after[0], before[0][order])
    np.testing.assert_array_equal(after[1], before[1][order])
    np.testing.assert_array_equal(after[2], before[2][:, order])


def test_sorted_units_compress_better_than_shuffled_ones():
    generator = np.random.default_rng(1)
    features = generator.integers(-7, 8, (96, 400)).astype("f4")
    density = generator.random(96)
    features[generator.random(features.shape) > density[:, None]] = 0

    def size(order):
        return len(gzip.compress(features[order].astype("i1").T.tobytes(), 9))

    plain = size(np.arange(96))
    for order in (unit_order._by_zeros, unit_order._by_likeness):
        found = order([features])
        assert sorted(found) == list(range(96))
        assert size(found) < 0.985 * plain


def test_scales_of_units_move_with_them():
    model = dense_chain(Operator.RELU)
    weights = model["subgraphs"][0]["tensors"][1]
    weights["quantization"] = Record(
        "QuantizationParameters", scale=np.arange(6, dtype="<f4"), quantized_dimension=0
    )
    (group,) = UnitGroups(model).movable()
    unit_order._Lot(model, UnitGroups(model), group)._apply(
        np.array([5, 0, 1, 2, 3, 4])
    )
    assert weights["quantization"]["scale"].tolist() == [5, 0, 1, 2, 3, 4]


def test_an_order_that_wins_nothing_is_not_taken():
    model = dense_chain(Operator.RELU)
    for number in (1, 2, 5):
        tensor = model["subgraphs"][0]["tensors"][number]
        set_values(model, tensor, np.zeros_like(values_of(model, tensor)))
    assert unit_order.reorder_units(model) == 0
