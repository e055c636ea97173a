"""Int8 files whose weights become int4, beside the same int8 activations.

The scales of a bias follow from those of inputs and weights, so biases are written
anew. The integers are those of the float weights, not of their int8 approximation,
which a second rounding would blur: weights on a trained grid keep it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from penjing.export.integer_weights import as_integers
from penjing.export.weight_uses import WeightUse, find_weights
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.graph_edits import own_input
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    all_tensors,
    is_plain,
    make_scales,
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
    """Make int8 weights of dense layers and convolutions int4, in place.

    Those that lie on a grid of at most 15 levels keep it; others of 1,024 elements and
    more get the scales with the least squared error, one for each channel. The rest,
    and weights of operators that take no int4, stay int8. The weights are read in
    `floats`, the same model in float32; without it they are what the int8 integers
    stand for.
    """
    sources = _Sources(floats)
    for graph in model["subgraphs"]:
        for number, uses in find_weights(model, graph, TensorType.INT8):
            one_kind = len({use.code for use in uses}) == 1
            if not one_kind or not all(_takes_int4(model, graph, u) for u in uses):
                continue
            tensor = graph["tensors"][number]
            axis = uses[0].channel_axis(len(tensor["shape"]))
            weights = as_integers(sources.find(_real_values(model, tensor)), {axis}, 4)
            if weights is not None:
                weights.spread(axis).put(model, tensor)
                for use in uses:
                    _rescale_bias(model, graph, use.operator)
                    use.raise_version(model, INT4_VERSIONS)
    share_buffers(model, keep_order=True)


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


def _takes_int4(model: Record, graph: Record, use: WeightUse) -> bool:
    inputs = use.operator["inputs"]
    if use.position != 1 or use.code not in INT4_VERSIONS:
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


def _rescale_bias(model: Record, graph: Record, operator: Record) -> None:
    """Give the bias of an operator the scale of its inputs and weights."""
    inputs = operator["inputs"]
    if len(inputs) <= _BIAS or inputs[_BIAS] < 0:
        return
    data, weight = (graph["tensors"][int(number)] for number in inputs[:2])
    bias = own_input(graph, operator, _BIAS)
    old = np.asarray(bias["quantization"]["scale"], "float64")
    scales = data["quantization"]["scale"][0] * weight["quantization"]["scale"]
    limits = np.iinfo("int32")
    steps = np.rint(values_of(model, bias) * old / scales)
    set_values(model, bias, np.clip(steps, limits.min, limits.max).astype("<i4"))
    bias["quantization"] = make_scales(scales)
