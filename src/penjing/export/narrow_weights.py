"""Int8 files whose weights become int4, beside the same int8 activations.

The scales of a bias follow from those of inputs and weights, so biases are written
anew. The integers are those of the float weights, not of their int8 approximation,
which a second rounding would blur: weights on a trained grid keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from penjing.export.integer_weights import (
    IntegerWeights,
    rounded_to_int4,
    weights_on_grid,
)
from penjing.export.weight_grids import (
    CHANNEL_AXES,
    SMALLEST_WITHOUT_GRID,
)
from penjing.tflite.graph_edits import add_tensor, set_input
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    all_tensors,
    empty_unused_buffers,
    is_plain,
    set_values,
    values_of,
)

# Operators that take int4 weights beside int8 inputs -> the version that does.
INT4_VERSIONS: dict[int, int] = {
    Operator.CONV_2D: 7,
    Operator.DEPTHWISE_CONV_2D: 7,
    Operator.FULLY_CONNECTED: 10,
}
_BIAS = 2
_SAME = 0.51  # steps that int8 rounding moves a weight, and a little

Array = np.ndarray[Any, Any]


def narrow_weights(model: Record, floats: Record | None = None) -> None:
    """Make int8 weights of dense layers and convolutions int4.

    Those that lie on a grid of at most 15 levels keep it; others of 1,024 elements
    and more get the scales with the least squared error, one for each channel. The
    rest, and weights of operators that take no int4, stay int8.

    Args:
        model: The table of a model with int8 weights and activations; it is changed.
        floats: The same model in float32, where the weights are read; without it they
            are what the int8 integers stand for.
    """
    sources = _Sources(floats)
    for graph in model["subgraphs"]:
        for number, operators in list(_weights(model, graph)):
            tensor = graph["tensors"][number]
            axis = CHANNEL_AXES[operator_code(model, operators[0]), 1]
            values = sources.find(_real_values(model, tensor))
            weights = _narrowed(values, axis)
            if weights is not None:
                _store(model, tensor, weights.spread(axis))
                for operator in operators:
                    _rescale_bias(model, graph, operator)
                    _raise_version(model, operator)
    empty_unused_buffers(model)


class _Sources:
    """The float weights that int8 ones were made of."""

    def __init__(self, model: Record | None) -> None:
        self._found: dict[tuple[int, ...], list[Array]] = {}
        if model is None:
            return
        for tensor in all_tensors(model):
            if tensor["type"] == TensorType.FLOAT32 and is_plain(model, tensor):
                shape = tuple(map(int, tensor["shape"]))
                self._found.setdefault(shape, []).append(values_of(model, tensor))

    def find(self, rounded: tuple[Array, Array]) -> Array:
        """The floats that round to these values at these scales, else the values."""
        values, scales = rounded
        for source in self._found.get(values.shape, []):
            if (np.abs(source - values) <= _SAME * scales).all():
                return source
        return values


def _weights(model: Record, graph: Record) -> Iterator[tuple[int, list[Record]]]:
    """Int8 weights that only operators read which take int4, with these operators."""
    readers: dict[int, list[tuple[Record, bool]]] = {}
    for operator in graph["operators"]:
        for position, number in enumerate(operator["inputs"]):
            fits = position == 1 and _takes_int4(model, graph, operator)
            readers.setdefault(int(number), []).append((operator, fits))
    kept = {int(number) for number in (*graph["inputs"], *graph["outputs"])}
    for number, uses in readers.items():
        if number in kept or number < 0 or not all(fits for _, fits in uses):
            continue
        operators = [operator for operator, _ in uses]
        tensor = graph["tensors"][number]
        one_kind = len({operator_code(model, operator) for operator in operators}) == 1
        if tensor["type"] == TensorType.INT8 and is_plain(model, tensor) and one_kind:
            yield number, operators


def _takes_int4(model: Record, graph: Record, operator: Record) -> bool:
    inputs = operator["inputs"]
    if operator_code(model, operator) not in INT4_VERSIONS:
        return False
    if graph["tensors"][int(inputs[0])]["type"] != TensorType.INT8:
        return False
    if len(inputs) <= _BIAS or inputs[_BIAS] < 0:
        return True
    bias = graph["tensors"][int(inputs[_BIAS])]
    return bool(bias["type"] == TensorType.INT32 and is_plain(model, bias))


def _real_values(model: Record, tensor: Record) -> tuple[Array, Array]:
    """What int8 weights stand for, and their scales, aligned with them."""
    integers = values_of(model, tensor)
    scales = np.asarray(tensor["quantization"]["scale"], "float32")
    if scales.size > 1:
        axis = int(tensor["quantization"]["quantized_dimension"])
        scales = scales.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
    return (integers * scales).astype("float32"), scales


def _narrowed(values: Array, axis: int) -> IntegerWeights | None:
    found = weights_on_grid(values, [axis], bits=4)
    if found is None and values.size >= SMALLEST_WITHOUT_GRID:
        return rounded_to_int4(values, axis)
    return found


def _store(model: Record, tensor: Record, weights: IntegerWeights) -> None:
    set_values(model, tensor, np.frombuffer(weights.stored(), "u1"))
    tensor["type"] = weights.tensor_type
    tensor["quantization"] = weights.quantization()


def _rescale_bias(model: Record, graph: Record, operator: Record) -> None:
    """Give an operator a bias of its own, at the scale of its inputs and weights."""
    inputs = operator["inputs"]
    if len(inputs) <= _BIAS or inputs[_BIAS] < 0:
        return
    data, weight = (graph["tensors"][int(number)] for number in inputs[:2])
    bias = graph["tensors"][int(inputs[_BIAS])].copy()
    old = np.asarray(bias["quantization"]["scale"], "float64")
    scales = data["quantization"]["scale"][0] * weight["quantization"]["scale"]
    limits = np.iinfo("int32")
    steps = np.rint(values_of(model, bias) * old / scales)
    set_values(model, bias, np.clip(steps, limits.min, limits.max).astype("<i4"))
    bias["quantization"] = Record(
        "QuantizationParameters",
        scale=scales.astype("float32"),
        zero_point=np.zeros(scales.size, "int64"),
    )
    set_input(operator, _BIAS, add_tensor(graph, bias))


def _raise_version(model: Record, operator: Record) -> None:
    code = model["operator_codes"][operator["opcode_index"]]
    version = INT4_VERSIONS[operator_code(model, operator)]
    code["version"] = max(code["version"], version)
