"""Which constants are weights, and what reads them."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.export.weights.weight_uses import find_weights
from penjing.tflite.operators import Operator, make_operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, set_values

pytestmark = pytest.mark.once
CODES = (Operator.FULLY_CONNECTED, Operator.BATCH_MATMUL, Operator.ADD)


def model_of(*reads, shapes=((4, 6), (4, 6), (6,)), outputs=()):
    """Constants of these shapes, and operators that read them: (code, inputs)."""
    tensors = [Record("Tensor", shape=np.array(shape, "<i4")) for shape in shapes]
    operators = [
        Record(
            "Operator",
            opcode_index=CODES.index(code),
            inputs=np.array(inputs, "<i4"),
        )
        for code, inputs in reads
    ]
    graph = Record(
        "SubGraph",
        tensors=tensors,
        operators=operators,
        outputs=np.array(outputs, "<i4"),
    )
    model = Record(
        "Model",
        subgraphs=[graph],
        buffers=[Record("Buffer")],
        operator_codes=[make_operator_code(code) for code in CODES],
    )
    for tensor in tensors:
        set_values(model, tensor, np.ones(tensor["shape"], "<f4"))
    return model


def found(model, kind=TensorType.FLOAT32):
    graph = model["subgraphs"][0]
    return {number: uses for number, uses in find_weights(model, graph, kind)}


def test_all_readers_of_a_weight_are_given_with_their_axes():
    model = model_of(
        (Operator.FULLY_CONNECTED, [7, 0, -1]), (Operator.BATCH_MATMUL, [7, 0])
    )
    ((number, uses),) = found(model).items()
    assert number == 0
    assert [(use.code, use.position) for use in uses] == [(9, 1), (126, 1)]
    assert [use.channel_axis(2) for use in uses] == [0, 1]


def test_constants_that_are_more_or_less_than_weights_are_left_out():
    assert not found(model_of())  # nothing reads them
    assert not found(model_of((Operator.ADD, [0, 1])))
    both = model_of((Operator.FULLY_CONNECTED, [7, 0]), (Operator.ADD, [0, 1]))
    assert not found(both)
    assert not found(model_of((Operator.FULLY_CONNECTED, [7, 0, 2])), TensorType.INT8)
    assert not found(model_of((Operator.FULLY_CONNECTED, [7, 2])))  # one axis
    assert not found(model_of((Operator.FULLY_CONNECTED, [7, 0]), outputs=[0]))
    empty = model_of((Operator.FULLY_CONNECTED, [7, 0]))
    empty["subgraphs"][0]["tensors"][0]["buffer"] = 0
    assert not found(empty)


def test_versions_rise_and_do_not_fall():
    model = model_of((Operator.FULLY_CONNECTED, [7, 0]))
    (use,) = found(model)[0]
    use.raise_version(model, {Operator.FULLY_CONNECTED: 12})
    assert [code["version"] for code in model["operator_codes"]] == [12, 1, 1]
    use.raise_version(model, {Operator.FULLY_CONNECTED: 5})
    assert model["operator_codes"][0]["version"] == 12


def test_a_graph_may_be_changed_between_two_weights():
    model = model_of(
        (Operator.FULLY_CONNECTED, [7, 0]), (Operator.FULLY_CONNECTED, [7, 1])
    )
    graph = model["subgraphs"][0]
    numbers = []
    for number, _ in find_weights(model, graph, TensorType.FLOAT32):
        numbers.append(number)
        graph["tensors"] = [*graph["tensors"], Record("Tensor")]
    assert numbers == [0, 1]
