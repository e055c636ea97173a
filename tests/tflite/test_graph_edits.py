"""Changes to a graph leave arrays alone, which may lie in the file."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.tflite import graph_edits
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, values_of

pytestmark = pytest.mark.once


@pytest.fixture
def model():
    inputs = np.array([0, 1, -1], "<i4")
    inputs.flags.writeable = False
    operators = [Record("Operator", inputs=inputs) for _ in range(2)]
    tensors = [Record("Tensor") for _ in range(2)]
    graph = Record("SubGraph", tensors=tensors, operators=operators)
    return Record("Model", subgraphs=[graph], buffers=[Record("Buffer")])


def inputs_of(model):
    return [o["inputs"].tolist() for o in model["subgraphs"][0]["operators"]]


def test_sizes_become_a_constant_of_the_graph(model):
    graph, before = model["subgraphs"][0], model["subgraphs"][0]["tensors"]
    number = graph_edits.add_sizes(model, graph, [-1, 4])
    assert number == 2 and len(before) == 2
    tensor = graph["tensors"][number]
    assert (tensor["type"], tensor["shape"].tolist()) == (TensorType.INT32, [2])
    assert values_of(model, tensor).tolist() == [-1, 4]


def test_one_input_of_one_operator_is_another_tensor(model):
    graph_edits.set_input(model["subgraphs"][0]["operators"][1], 2, 7)
    assert inputs_of(model) == [[0, 1, -1], [0, 1, 7]]


def test_all_readers_read_another_tensor(model):
    graph_edits.read_instead(model["subgraphs"][0], 1, 5)
    assert inputs_of(model) == [[0, 5, -1]] * 2
