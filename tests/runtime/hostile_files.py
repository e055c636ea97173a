"""Small `.tflite` files that never end, or ask for any memory; written by hand."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT, INT32, BOOL = 0, 2, 6
FILL, WHILE = 94, 119


def _tensor(name, shape, kind, buffer=0):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
    return tensor


def _graph(tensors, inputs, outputs, *operators):
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = tensors, inputs, outputs
    graph.operators = list(operators)
    return graph


def _operator(inputs, outputs, options=None, kind=0):
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, outputs
    operator.builtinOptions, operator.builtinOptionsType = options, kind
    return operator


def _packed(code, graphs, *constants):
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, graphs, []
    operator = schema.OperatorCodeT()
    operator.builtinCode = operator.deprecatedBuiltinCode = code
    operator.version = 1
    model.operatorCodes = [operator]
    for data in (b"", *constants):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, "u1") if data else None
        model.buffers.append(buffer)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def greedy_file():
    """It gives zeros of the shape that it is given, as int32 of shape (2,)."""
    tensors = [
        _tensor("shape", [2], INT32),
        _tensor("value", [], FLOAT, 1),
        _tensor("zeros", [], FLOAT),
    ]
    graph = _graph(tensors, [0], [2], _operator([0, 1], [2]))
    return _packed(FILL, [graph], bytes(4))


def huge_file(size=2**20):
    """It gives zeros of `size` times `size`, whatever it is given."""
    tensors = [
        _tensor("x", [1, 4], FLOAT),
        _tensor("shape", [2], INT32, 1),
        _tensor("value", [], FLOAT, 2),
        _tensor("zeros", [size, size], FLOAT),
    ]
    graph = _graph(tensors, [0], [3], _operator([1, 2], [3]))
    return _packed(FILL, [graph], np.array([size, size], "i4").tobytes(), bytes(4))


def endless_file():
    """A loop whose condition is always true."""
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    loop = _operator([0], [1], options, schema.BuiltinOptions.WhileOptions)
    pair = [_tensor("x", [1, 4], FLOAT), _tensor("y", [1, 4], FLOAT)]
    graphs = [
        _graph(pair, [0], [1], loop),
        _graph([_tensor("x", [1, 4], FLOAT), _tensor("go", [1], BOOL, 1)], [0], [1]),
        _graph([_tensor("x", [1, 4], FLOAT)], [0], [0]),
    ]
    return _packed(WHILE, graphs, b"\x01")
