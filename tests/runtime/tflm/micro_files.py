"""Small `.tflite` files whose operators round, or are wrong, in TFLM."""

from __future__ import annotations

import copy

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

INT8, INT32, RESOURCE = 9, 2, 13
ADD, GELU, VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE = 0, 150, 142, 143, 144
FULLY_CONNECTED, SPACE_TO_BATCH_ND, SUM, QUANTIZE = 9, 38, 74, 114
RESHAPE, CALL_ONCE = 22, 129
# The others are of version 2, as int8 needs it.
VERSIONS = {SPACE_TO_BATCH_ND: 3, VAR_HANDLE: 1, READ_VARIABLE: 1, ASSIGN_VARIABLE: 1}
VERSIONS[RESHAPE] = VERSIONS[CALL_ONCE] = 1


class Network:
    """A file that is written tensor by tensor; the first tensor is its input."""

    def __init__(self, shape, scale=0.5, zero_point=0, kind=INT8):
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.subgraphs = 3, [self._graph]
        self._model.operatorCodes, self._model.buffers = [], [schema.BufferT()]
        self._graph.tensors, self._graph.operators = [], []
        self.last = self.tensor("input", shape, scale, zero_point, kind=kind)
        self._graph.inputs = [self.last]

    def another(self):
        """Another graph of the same file, without inputs and outputs."""
        other = copy.copy(self)
        other._graph = schema.SubGraphT()
        other._graph.tensors, other._graph.operators = [], []
        other._graph.inputs, other._graph.outputs = [], []
        self._model.subgraphs.append(other._graph)
        return other

    def tensor(self, name, shape, scale=None, zero_point=0, data=None, kind=INT8):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), kind
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), "u1")
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [scale]
            tensor.quantization.zeroPoint = [zero_point]
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def on(self, number):
        self.last = number
        return self

    def sizes(self, values):
        array = np.array(values, "<i4")
        return self.tensor("sizes", array.shape, data=array, kind=INT32)

    def then(self, code, inputs, output, options=None, kind=0, reads=True):
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes)
        operator.inputs = [self.last, *inputs] if reads else inputs
        operator.outputs = [] if output is None else [output]
        operator.builtinOptions, operator.builtinOptionsType = options, kind
        number = schema.OperatorCodeT()
        number.builtinCode, number.deprecatedBuiltinCode = code, min(code, 127)
        number.version = VERSIONS.get(code, 2)
        self._model.operatorCodes.append(number)
        self._graph.operators.append(operator)
        self.last = output
        return self

    def dense(self, weights, scale):
        rows, columns = weights.shape
        options = schema.FullyConnectedOptionsT()
        place = self.tensor("weights", (rows, columns), 0.01, data=weights)
        bias = np.zeros(rows, "<i4")
        bias = self.tensor("bias", (rows,), 0.005, data=bias, kind=INT32)
        output = self.tensor("dense", (1, rows), scale)
        return self.then(FULLY_CONNECTED, [place, bias], output, options, 8)

    def content(self):
        self._graph.outputs = [self.last]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def wrong_padding():
    """TFLM pads with 0 what LiteRT pads with the zero point."""
    net = Network((1, 4, 4, 1), zero_point=-128)
    inputs = [net.sizes([2, 2]), net.sizes([[2, 2], [2, 2]])]
    output = net.tensor("padded", (4, 4, 4, 1), 0.5, -128)
    return net.then(SPACE_TO_BATCH_ND, inputs, output).content()


def wrong_reference():
    """The sum of 12 values, which LiteRT's reference kernels have wrong."""
    net = Network((1, 12), 0.0038, -128)
    options = schema.ReducerOptionsT()
    options.keepDims = True
    output = net.tensor("sum", (1, 1), 0.0275, -128)
    return net.then(SUM, [net.sizes([1])], output, options, 27).content()


def amplified_rounding(seed=0):
    """A dense layer, one step of which becomes ten."""
    weights = np.random.default_rng(seed).integers(-20, 20, (16, 64), "i1")
    net = Network((1, 64)).dense(weights, scale=0.7)
    output = net.tensor("finer", (1, 16), 0.07)
    return net.then(QUANTIZE, [], output, schema.QuantizeOptionsT(), 89).content()


def pruned(levels=3):
    """A dense layer with few weights that are not zero, and few levels of them."""
    generator = np.random.default_rng(0)
    weights = generator.integers(1, levels + 1, (64, 64), "i1")
    weights[generator.random(weights.shape) < 0.9] = 0
    return Network((1, 64)).dense(weights, scale=0.7).content()


def unknown_operator():
    """A GELU, which TFLM does not have."""
    net = Network((1, 8))
    return net.then(GELU, [], net.tensor("gelu", (1, 8), 0.5)).content()


def state_keeping():
    """Keeps its input between runs, and adds it to what it reads again."""
    net, start, handle = _with_state()
    _assign(net, start, handle)
    read = _read(net, handle)
    total = net.tensor("total", (1, 4), 0.5)
    return net.on(start).then(ADD, [read], total, schema.AddOptionsT(), 11).content()


def counting():
    """Adds its input to all that it was given before, which begins with zeros."""
    net, start, handle = _with_state(CALL_ONCE)
    begin = net.another()
    zeros = begin.tensor("zeros", (1, 4), 0.5, data=np.zeros(4, "i1"))
    _assign(begin, zeros, _handle(begin))
    read = _read(net, handle)
    total = net.tensor("total", (1, 4), 0.5)
    net.on(start).then(ADD, [read], total, schema.AddOptionsT(), 11)
    _assign(net, total, handle)
    return net.on(total).content()


def _with_state(*first):
    net = Network((1, 4))
    start = net.last
    for code in first:
        options = schema.CallOnceOptionsT()
        options.initSubgraphIndex = 1
        net.then(code, [], None, options, 103, reads=False)
    return net, start, _handle(net)


def _handle(net):
    handle = net.tensor("state", (), kind=RESOURCE)
    options = schema.VarHandleOptionsT()
    options.container, options.sharedName = "", "state"
    net.then(VAR_HANDLE, [], handle, options, 111, reads=False)
    return handle


def _assign(net, value, handle):
    options = schema.AssignVariableOptionsT()
    net.on(handle).then(ASSIGN_VARIABLE, [value], None, options, 113)


def _read(net, handle):
    read = net.tensor("read", (1, 4), 0.5)
    net.on(handle).then(READ_VARIABLE, [], read, schema.ReadVariableOptionsT(), 112)
    return read
