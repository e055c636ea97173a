"""What an operator moves keeps its values, whatever the scale of its output."""

from __future__ import annotations

import numpy as np
import pytest
from tests.specializing.graphs import Graph

import penjing
from penjing.export.moved_values import keep_moved_values
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_name
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once


def reversing(scale):
    it = Graph()
    x = it.tensor([1, 5], "i1", scale=0.1, zero_point=3)
    y = it.tensor([1, 5], "i1", scale=scale, zero_point=3)
    it.add(Operator.REVERSE_V2, [x, it.constant([1], "i4")], y, None, 3)
    return load_records(it.content([x], [y]), "it")


def test_a_change_of_scale_is_made_by_quantize(tmp_path):
    model = reversing(0.2)
    assert keep_moved_values(model)
    graph = model["subgraphs"][0]
    found = [operator_name(model, operator) for operator in graph["operators"]]
    assert found == ["REVERSE_V2", "QUANTIZE"]
    path = tmp_path / "model.tflite"
    path.write_bytes(write_records(model))
    x = np.array([[1.0, -2.0, 3.0, 0.0, 4.0]], "float32")
    actual = penjing.LiteRTModel(path).predict(x)
    np.testing.assert_allclose(actual, x[:, ::-1], atol=0.11)


def test_what_is_chosen_between_comes_in_one_scale(tmp_path):
    it = Graph()
    x = it.tensor([1, 4], "i1", scale=0.1)
    condition = it.constant([[1, 0, 1, 0]], "?")
    other = it.constant([[10, 20, 30, 40]], "i1", scale=0.05)
    y = it.tensor([1, 4], "i1", scale=0.2, zero_point=5)
    it.add(Operator.SELECT_V2, [condition, x, other], y)
    model = load_records(it.content([x], [y]), "it")
    assert keep_moved_values(model)
    path = tmp_path / "model.tflite"
    path.write_bytes(write_records(model))
    actual = penjing.LiteRTModel(path).predict(np.array([[3.0, 1, -2, 1]], "float32"))
    np.testing.assert_allclose(actual, [[3.0, 1.0, -2.0, 2.0]], atol=0.11)


def test_one_scale_is_left_as_it_is():
    model = reversing(0.1)
    assert not keep_moved_values(model)
    assert len(model["subgraphs"][0]["operators"]) == 1
