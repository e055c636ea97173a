"""Units whose value never changes, and that value.

A unit without weights gives its bias, through everything that works on each channel by
itself. For each computed tensor the values along its last axis are found; NaN stands
for one that depends on the inputs, or that is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from penjing.shrinking.graph_walk import GraphWalk
from penjing.shrinking.unit_groups import RESHAPES, Blocks
from penjing.tflite.operators import WEIGHTED, Call, Operator, operators
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, values_of

Array = np.ndarray[Any, Any]

# Kernels round integers in several ways: so far from a half they all agree.
_MARGIN = 0.05
_QUANTIZED = (TensorType.INT8, TensorType.UINT8, TensorType.INT16)
# A unit that has one value everywhere keeps it.
_AVERAGES = operators(
    "AVERAGE_POOL_2D MAX_POOL_2D RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR MEAN "
    "REDUCE_MAX REDUCE_MIN"
)
_BINARY: dict[int, Callable[[Array, Array], Array]] = {
    Operator.ADD: np.add,
    Operator.MUL: np.multiply,
    Operator.SUB: np.subtract,
    Operator.DIV: np.divide,
    Operator.MAXIMUM: np.maximum,
    Operator.MINIMUM: np.minimum,
}
_UNARY: dict[int, Callable[[Array], Array]] = {
    Operator.DEQUANTIZE: np.array,
    Operator.QUANTIZE: np.array,
    Operator.LOGISTIC: lambda x: 1 / (1 + np.exp(-x)),
    Operator.RELU: lambda x: np.maximum(x, 0),
    Operator.RELU_N1_TO_1: lambda x: np.clip(x, -1, 1),
    Operator.RELU6: lambda x: np.clip(x, 0, 6),
    Operator.TANH: np.tanh,
    Operator.NEG: np.negative,
    Operator.SQUARE: np.square,
    Operator.ABS: np.abs,
    Operator.ELU: lambda x: np.where(x > 0, x, np.expm1(x)),
    Operator.HARD_SWISH: lambda x: x * np.clip(x + 3, 0, 6) / 6,
    Operator.RELU_0_TO_1: lambda x: np.clip(x, 0, 1),
}
# Fused activations: NONE, RELU, RELU_N1_TO_1, RELU6.
_FUSED: dict[int, Callable[[Array], Array]] = {
    0: np.array,
    1: _UNARY[Operator.RELU],
    2: _UNARY[Operator.RELU_N1_TO_1],
    3: _UNARY[Operator.RELU6],
}


def real_values(model: Record, tensor: Record) -> Array:
    """The real numbers of a constant that `is_plain`, as float64 in its shape.

    They are NaN where their scales are not understood.
    """
    values = values_of(model, tensor).astype("f8")
    quantization = tensor["quantization"]
    if not quantization or not len(quantization["scale"]):
        return values
    if quantization["details"]:
        return np.full(values.shape, np.nan)
    parts = []
    for name in ("scale", "zero_point"):
        part = quantization[name].astype("f8")
        if len(part) > 1:
            shape = [1] * values.ndim
            shape[quantization["quantized_dimension"]] = -1
            part = part.reshape(shape)
        parts.append(part if part.size else np.zeros(1))
    return np.asarray((values - parts[1]) * parts[0])


def is_not_zero(model: Record, tensor: Record) -> Array:
    """Which numbers of a constant that `is_plain` stand for something else than 0."""
    values = values_of(model, tensor)
    quantization = tensor["quantization"]
    if not quantization or not np.any(quantization["zero_point"]):
        if quantization and quantization["details"]:
            return np.ones(values.shape, bool)
        return np.asarray(values != 0)
    return np.asarray(real_values(model, tensor) != 0)


class UnitValues(GraphWalk):
    """What is known of the values of units, in a graph of a model that LiteRT runs.

    `blocks` are the groups along the last axis of its tensors, see `UnitGroups`.
    """

    def __init__(self, model: Record, number: int, blocks: dict[int, Blocks]) -> None:
        super().__init__(model, number)
        self._blocks = blocks
        self._found: dict[int, Array] = {}
        rules: dict[int, Callable[[Call], Array | None]] = {
            Operator.FULLY_CONNECTED: self._weighted,
            Operator.CONV_2D: self._weighted,
            Operator.TRANSPOSE_CONV: self._weighted,
            Operator.DEPTHWISE_CONV_2D: self._depthwise,
            Operator.CONCATENATION: self._concatenation,
            Operator.GATHER: self._gather,
            Operator.PRELU: self._prelu,
            Operator.LEAKY_RELU: self._channelwise,
            **dict.fromkeys(RESHAPES, self._reshape),
            **dict.fromkeys((Operator.PAD, Operator.MIRROR_PAD), self._pad),
            **dict.fromkeys((*_AVERAGES, *_UNARY), self._channelwise),
            **dict.fromkeys(_BINARY, self._binary),
        }
        with np.errstate(all="ignore"):
            for call in self.calls():
                if call.code in rules and len(call.outputs) == 1:
                    values = rules[call.code](call)
                    if values is not None and len(values) == self.last(call.output):
                        self._found[call.output] = self._stored(call, values)

    def of(self, number: int) -> Array:
        """The values along the last axis of a computed tensor."""
        if number not in self._found:
            return np.full(self.last(number), np.nan)
        return self._found[number]

    def _stored(self, call: Call, values: Array) -> Array:
        """Values behind the fused activation, as the tensor can hold them."""
        output = self._tensors[call.output]
        fused = int(call.option("fused_activation_function"))
        if fused not in _FUSED:
            return np.full(len(values), np.nan)
        values = _FUSED[fused](values)
        if output["type"] == TensorType.FLOAT32:
            return values.astype("f4").astype("f8")
        quantization = output["quantization"]
        if output["type"] not in _QUANTIZED or not quantization:
            return np.full(len(values), np.nan)
        if len(quantization["scale"]) != 1:
            return np.full(len(values), np.nan)
        scale = float(quantization["scale"][0])
        zero = float((*quantization["zero_point"], 0)[0])
        steps = values / scale
        steps[np.abs(np.abs(steps - np.floor(steps)) - 0.5) < _MARGIN] = np.nan
        limits = np.iinfo(TensorType(output["type"]).numpy_type)
        steps = np.clip(np.rint(steps) + zero, limits.min, limits.max) - zero
        return np.asarray(steps * scale)

    # Rules: the values along the last axis of an operator's output.

    def _weighted(self, call: Call) -> Array | None:
        """Units give their bias where each input is zero or has no weight."""
        places = WEIGHTED[call.code]
        kernel = self._kernel(call.inputs[places.weights])
        if kernel is None or kernel.ndim < 2:
            return None
        values = self.of(call.inputs[places.x])
        values = np.tile(values, kernel.shape[-1] // max(len(values), 1))
        if len(values) != kernel.shape[-1]:
            return None
        read = kernel & (values != 0)
        silent = ~read.reshape(len(kernel), -1).any(axis=1)
        return np.where(silent, self._biases(call, len(kernel)), np.nan)

    def _kernel(self, number: int) -> Array | None:
        source = self.source(number)
        if source is None:
            return None
        return is_not_zero(self.model, self._tensors[source])

    def _biases(self, call: Call, units: int) -> Array:
        places = WEIGHTED[call.code]
        if call.input(places.bias) < 0:
            return np.zeros(units)
        source = self.source(call.input(places.bias))
        if source is None or self.shape(source) != (units,):
            return np.full(units, np.nan)
        tensor = self._tensors[source]
        if tensor["type"] not in (TensorType.INT32, TensorType.INT64):
            return real_values(self.model, tensor)
        x, weights = (self._scales(call.inputs[n]) for n in places[:2])
        return np.asarray(self.values(source) * x * weights)

    def _scales(self, number: int) -> Array:
        quantization = self._tensors[number]["quantization"]
        if not quantization or not len(quantization["scale"]):
            return np.full(1, np.nan)
        return np.asarray(quantization["scale"].astype("f8"))

    def _depthwise(self, call: Call) -> Array | None:
        kernel, values = self._kernel(call.inputs[1]), self.of(call.inputs[0])
        if kernel is None or kernel.shape[-1] != len(values):
            return None
        read = kernel.reshape(-1, len(values)).any(axis=0) & (values != 0)
        return np.where(read, np.nan, self._biases(call, len(values)))

    def _channelwise(self, call: Call) -> Array | None:
        x = call.inputs[0]
        if self._blocks.get(x) != self._blocks.get(call.output):
            return None  # another axis is the last one
        values = self.of(x)
        if call.code == Operator.LEAKY_RELU:
            return np.where(values >= 0, values, values * call.option("alpha"))
        return _UNARY[call.code](values) if call.code in _UNARY else values

    def _binary(self, call: Call) -> Array | None:
        size = self.last(call.output)
        a, b = (self._operand(n) for n in call.inputs[:2])
        if {len(a), len(b)} - {1, size}:
            return None
        values = np.atleast_1d(_BINARY[call.code](a, b))
        if call.code == Operator.MUL:  # a product with zero
            values = np.where((a == 0) | (b == 0), 0.0, values)
        return np.broadcast_to(values, size).copy()

    def _operand(self, number: int) -> Array:
        source = self.source(number)
        if source is None:
            return self.of(number)
        constant = real_values(self.model, self._tensors[source])
        return _same_rows(constant, (constant.shape or (1,))[-1])

    def _prelu(self, call: Call) -> Array | None:
        x, alpha = (self._operand(n) for n in call.inputs[:2])
        if len(alpha) not in (1, len(x)):
            return None
        return np.where(x >= 0, x, x * alpha)

    def _reshape(self, call: Call) -> Array | None:
        values = self.of(call.inputs[0])
        after = self.last(call.output)
        if after % max(len(values), 1) == 0:
            return np.tile(values, after // max(len(values), 1))
        return _same_rows(values, after) if len(values) % after == 0 else None

    def _pad(self, call: Call) -> Array | None:
        values = self._channelwise(call)
        if values is None or call.code == Operator.MIRROR_PAD:
            return values
        return np.where(values == 0, 0.0, np.nan)

    def _concatenation(self, call: Call) -> Array | None:
        rank = len(self.shape(call.inputs[0]))
        parts = [self._operand(number) for number in call.inputs]
        if int(call.option("axis")) % max(rank, 1) == rank - 1:
            return np.concatenate(parts)
        if len({len(part) for part in parts}) > 1:
            return None
        return _same_rows(np.stack(parts), len(parts[0]))

    def _gather(self, call: Call) -> Array | None:
        if call.option("axis") or call.option("batch_dims"):
            return None
        table = self._kernel(call.inputs[0])
        if table is None or table.ndim != 2:
            return None
        return np.where(table.any(axis=0), np.nan, 0.0)


def _same_rows(values: Array, length: int) -> Array:
    """What all rows of a length have in common, NaN where they differ."""
    rows = values.reshape(-1, max(length, 1))
    if not len(rows):
        return np.full(length, np.nan)
    return np.where((rows == rows[0]).all(axis=0), rows[0], np.nan)
