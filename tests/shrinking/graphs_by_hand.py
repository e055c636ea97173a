"""Small graphs, record by record."""

from __future__ import annotations

import numpy as np

from penjing.tflite.operators import Operator, make_operator_code
from penjing.tflite.records import Record


def tensor(model, shape, values=None):
    buffer = Record("Buffer")
    if values is not None:
        buffer["data"] = np.frombuffer(np.asarray(values, "<f4").tobytes(), "u1")
    model["buffers"] = [*model["buffers"], buffer]
    graph = model["subgraphs"][0]
    item = Record("Tensor", shape=np.array(shape, "<i4"))
    item["buffer"] = len(model["buffers"]) - 1
    graph["tensors"] = [*graph["tensors"], item]
    return len(graph["tensors"]) - 1


def operate(model, code, inputs, output):
    codes = [*model["operator_codes"], make_operator_code(code)]
    graph = model["subgraphs"][0]
    operator = Record(
        "Operator",
        opcode_index=len(codes) - 1,
        inputs=np.array(inputs, "<i4"),
        outputs=np.array([output], "<i4"),
    )
    model["operator_codes"] = codes
    graph["operators"] = [*graph["operators"], operator]


def dense_chain(between, width=(6, 6)):
    """Dense 6, an operator, dense 2."""
    model = Record("Model", subgraphs=[Record("SubGraph")], buffers=[Record("Buffer")])
    generator = np.random.default_rng(0)
    x = tensor(model, [1, 4])
    first = tensor(model, [6, 4], generator.normal(size=(6, 4)))
    bias = tensor(model, [6], np.arange(6)[::-1])
    hidden, middle = tensor(model, [1, width[0]]), tensor(model, [1, width[1]])
    second = tensor(model, [2, width[1]], generator.normal(size=(2, width[1])))
    y = tensor(model, [1, 2])
    operate(model, Operator.FULLY_CONNECTED, [x, first, bias], hidden)
    operate(model, between, [hidden], middle)
    operate(model, Operator.FULLY_CONNECTED, [middle, second, -1], y)
    graph = model["subgraphs"][0]
    graph["inputs"], graph["outputs"] = np.array([x], "<i4"), np.array([y], "<i4")
    return model
