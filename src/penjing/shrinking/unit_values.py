"""Units whose value never changes, and that value.

A unit without weights gives its bias, through everything that works on each channel by
itself. For each computed tensor the values along its last axis are found; NaN stands
for one that depends on the inputs, or that is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from penjing.shrinking.unit_groups import RESHAPES, Blocks
from penjing.tflite.operators import Operator, operator_code, operators
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, is_plain, values_of

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
    """The real numbers that a constant stands for, as float64 in its shape.

    Args:
        model: The model.
        tensor: A tensor that `is_plain`.

    Returns:
        Its numbers, NaN where their scales are not understood.
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
    """Which numbers of a constant stand for something else than 0.

    Args:
        model: The model.
        tensor: A tensor that `is_plain`.

    Returns:
        Booleans in its shape.
    """
    values = values_of(model, tensor)
    quantization = tensor["quantization"]
    if not quantization or not np.any(quantization["zero_point"]):
        if quantization and quantization["details"]:
            return np.ones(values.shape, bool)
        return np.asarray(values != 0)
    return np.asarray(real_values(model, tensor) != 0)


class UnitValues:
    """What is known of the values of units.

    Args:
        model: A model that LiteRT runs.
        number: Number of the graph.
        blocks: The groups along the last axis of its tensors, see `UnitGroups`.
    """

    def __init__(self, model: Record, number: int, blocks: dict[int, Blocks]) -> None:
        self._model = model
        self._graph = model["subgraphs"][number]
        self._tensors = self._graph["tensors"]
        self._blocks = blocks
        self._found: dict[int, Array] = {}
        self._sources: dict[int, int] = {}
        self._rules: dict[int, Callable[[Record], Array | None]] = {
            Operator.FULLY_CONNECTED: lambda op: self._weighted(op, 0, 1, 2),
            Operator.CONV_2D: lambda op: self._weighted(op, 0, 1, 2),
            Operator.TRANSPOSE_CONV: lambda op: self._weighted(op, 2, 1, 3),
            Operator.DEPTHWISE_CONV_2D: self._depthwise,
            Operator.CONCATENATION: self._concatenation,
            Operator.GATHER: self._gather,
            Operator.PRELU: self._prelu,
            **dict.fromkeys(RESHAPES, self._reshape),
            **dict.fromkeys((Operator.PAD, Operator.MIRROR_PAD), self._pad),
            Operator.LEAKY_RELU: self._channelwise,
            **dict.fromkeys((*_AVERAGES, *_UNARY), self._channelwise),
            **dict.fromkeys(_BINARY, self._binary),
        }
        with np.errstate(all="ignore"):
            for operator in self._graph["operators"]:
                self._run(operator)

    def of(self, number: int) -> Array:
        """The values along the last axis of a computed tensor."""
        if number not in self._found:
            return np.full(self._last(number), np.nan)
        return self._found[number]

    def source(self, number: int) -> int | None:
        """The constant behind a tensor, also through a DEQUANTIZE."""
        number = self._sources.get(number, number)
        if number >= 0 and is_plain(self._model, self._tensors[number]):
            return number
        return None

    def constant(self, number: int) -> Array | None:
        """The real numbers of the constant behind a tensor."""
        source = self.source(number)
        if source is None:
            return None
        return real_values(self._model, self._tensors[source])

    def _run(self, operator: Record) -> None:
        code = operator_code(self._model, operator)
        inputs, outputs = operator["inputs"], operator["outputs"]
        if code == Operator.DEQUANTIZE and self.source(int(inputs[0])) is not None:
            self._sources[int(outputs[0])] = int(inputs[0])
            return
        if code not in self._rules or len(outputs) != 1:
            return
        values = self._rules[code](operator)
        if values is not None and len(values) == self._last(int(outputs[0])):
            self._found[int(outputs[0])] = self._stored(operator, values)

    def _stored(self, operator: Record, values: Array) -> Array:
        """Values behind the fused activation, as the tensor can hold them."""
        output = self._tensors[operator["outputs"][0]]
        options = operator["builtin_options"]
        fused = int(_option(options, "fused_activation_function"))
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

    def _last(self, number: int) -> int:
        shape = self._tensors[number]["shape"]
        return int(shape[-1]) if len(shape) else 1

    # Rules: the values along the last axis of an operator's output.

    def _weighted(
        self, operator: Record, x: int, weights: int, bias: int
    ) -> Array | None:
        """Units give their bias where each input is zero or has no weight."""
        inputs = [int(n) for n in operator["inputs"]]
        kernel = self._kernel(inputs[weights])
        if kernel is None or kernel.ndim < 2:
            return None
        values = self.of(inputs[x])
        repeats = kernel.shape[-1] // max(len(values), 1)
        values = np.tile(values, repeats)
        if len(values) != kernel.shape[-1]:
            return None
        read = kernel & (values != 0)
        silent = ~read.reshape(len(kernel), -1).any(axis=1)
        biases = self._biases(inputs, x, weights, bias, len(kernel))
        return np.where(silent, biases, np.nan)

    def _kernel(self, number: int) -> Array | None:
        source = self.source(number)
        return (
            None if source is None else is_not_zero(self._model, self._tensors[source])
        )

    def _biases(
        self, inputs: list[int], x: int, weights: int, bias: int, units: int
    ) -> Array:
        if len(inputs) <= bias or inputs[bias] < 0:
            return np.zeros(units)
        source = self.source(inputs[bias])
        if source is None or list(self._tensors[source]["shape"]) != [units]:
            return np.full(units, np.nan)
        tensor = self._tensors[source]
        if tensor["type"] not in (TensorType.INT32, TensorType.INT64):
            return real_values(self._model, tensor)
        scales = [self._scales(inputs[n]) for n in (x, weights)]
        return np.asarray(values_of(self._model, tensor) * scales[0] * scales[1])

    def _scales(self, number: int) -> Array:
        quantization = self._tensors[number]["quantization"]
        if not quantization or not len(quantization["scale"]):
            return np.full(1, np.nan)
        return np.asarray(quantization["scale"].astype("f8"))

    def _depthwise(self, operator: Record) -> Array | None:
        inputs = [int(n) for n in operator["inputs"]]
        kernel, values = self._kernel(inputs[1]), self.of(inputs[0])
        if kernel is None or kernel.shape[-1] != len(values):
            return None
        read = kernel.reshape(-1, len(values)).any(axis=0) & (values != 0)
        biases = self._biases(inputs, 0, 1, 2, len(values))
        return np.where(read, np.nan, biases)

    def _channelwise(self, operator: Record) -> Array | None:
        x = int(operator["inputs"][0])
        code = operator_code(self._model, operator)
        if self._blocks.get(x) != self._blocks.get(int(operator["outputs"][0])):
            return None  # another axis is the last one
        values = self.of(x)
        if code == Operator.LEAKY_RELU:
            alpha = _option(operator["builtin_options"], "alpha")
            return np.where(values >= 0, values, values * alpha)
        return _UNARY[code](values) if code in _UNARY else values

    def _binary(self, operator: Record) -> Array | None:
        code = operator_code(self._model, operator)
        output = int(operator["outputs"][0])
        a, b = (self._operand(int(n)) for n in operator["inputs"][:2])
        if {len(a), len(b)} - {1, self._last(output)}:
            return None
        values = np.atleast_1d(_BINARY[code](a, b))
        if code == Operator.MUL:  # a product with zero
            values = np.where((a == 0) | (b == 0), 0.0, values)
        return np.broadcast_to(values, self._last(output)).copy()

    def _operand(self, number: int) -> Array:
        constant = self.constant(number)
        if constant is None:
            return self.of(number)
        return _same_rows(constant, (constant.shape or (1,))[-1])

    def _prelu(self, operator: Record) -> Array | None:
        x, alpha = (self._operand(int(n)) for n in operator["inputs"][:2])
        if len(alpha) not in (1, len(x)):
            return None
        return np.where(x >= 0, x, x * alpha)

    def _reshape(self, operator: Record) -> Array | None:
        values = self.of(int(operator["inputs"][0]))
        after = self._last(int(operator["outputs"][0]))
        if after % max(len(values), 1) == 0:
            return np.tile(values, after // max(len(values), 1))
        return _same_rows(values, after) if len(values) % after == 0 else None

    def _pad(self, operator: Record) -> Array | None:
        values = self._channelwise(operator)
        code = operator_code(self._model, operator)
        if values is None or code == Operator.MIRROR_PAD:
            return values
        return np.where(values == 0, 0.0, np.nan)

    def _concatenation(self, operator: Record) -> Array | None:
        numbers = [int(n) for n in operator["inputs"]]
        rank = len(self._tensors[numbers[0]]["shape"])
        axis = int(_option(operator["builtin_options"], "axis"))
        parts = [self._operand(number) for number in numbers]
        if axis % max(rank, 1) == rank - 1:
            return np.concatenate(parts)
        if len({len(part) for part in parts}) > 1:
            return None
        return _same_rows(np.stack(parts), len(parts[0]))

    def _gather(self, operator: Record) -> Array | None:
        options = operator["builtin_options"]
        source = self.source(int(operator["inputs"][0]))
        if source is None or _option(options, "axis") or _option(options, "batch_dims"):
            return None
        table = is_not_zero(self._model, self._tensors[source])
        if table.ndim != 2:
            return None
        return np.where(table.any(axis=0), np.nan, 0.0)


def _same_rows(values: Array, length: int) -> Array:
    """What all rows of a length have in common, NaN where they differ."""
    rows = values.reshape(-1, max(length, 1))
    if not len(rows):
        return np.full(length, np.nan)
    return np.where((rows == rows[0]).all(axis=0), rows[0], np.nan)


def _option(options: Record | None, name: str) -> float:
    try:
        return options[name] if options else 0
    except KeyError:  # options of a kind that has no such field
        return 0
