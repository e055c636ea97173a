"""Integer files whose weights are those of training, or int4.

The converter gives each channel the scale that its largest weight asks for. Here the
weights of its file get the integers that training fixed, or int4, and the scales of
these. They are those of the float weights, not of their int8 approximation, which a
second rounding would blur. The scales of a bias follow from those of inputs and
weights, so biases are written anew. What a table gives out in integers has the table's
scale; a QUANTIZE operator brings it to the one that follows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from penjing.export.weights.fixed_weights import FixedWeight
from penjing.export.weights.integer_weights import (
    IntegerWeights,
    as_integers,
    trained_integers,
)
from penjing.export.weights.weight_grids import SAME, keep_weight_grids, real_values
from penjing.export.weights.weight_uses import WeightUse, find_weights
from penjing.tflite.graph_edits import (
    add_tensor,
    insert_after,
    make_operator,
    own_input,
)
from penjing.tflite.operators import WEIGHTED, Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    all_tensors,
    is_plain,
    make_scales,
    set_values,
    tensor_name,
    values_of,
)

# Operators that take int4 weights beside int8 inputs -> the version that does.
INT4_VERSIONS: dict[int, int] = {
    Operator.CONV_2D: 7,
    Operator.DEPTHWISE_CONV_2D: 7,
    Operator.FULLY_CONNECTED: 10,
}
_QUANTIZE_VERSION = 2  # from int8 to int8
_BIAS_TYPES: dict[int, tuple[TensorType, ...]] = {  # by the inputs
    TensorType.INT8: (TensorType.INT32,),
    TensorType.INT16: (TensorType.INT32, TensorType.INT64),
}

Array = np.ndarray[Any, Any]


def keep_calibrated_weights(
    model: Record,
    floats: Record | None = None,
    *,
    bits: int = 8,
    fixed: Sequence[FixedWeight] = (),
    dense_one_scale: bool = False,
) -> None:
    """Give the weights of an int8 or int16x8 file the integers of training, in place.

    With 4 bits, weights of dense layers and convolutions become int4: those on a grid
    of at most 15 levels keep it; others of 1,024 elements and more get the scales with
    the least squared error, one for each channel. The rest, and weights of operators
    that take no int4, are int8, on their grids. The weights are read in `floats`, the
    same model in float32; without it they are what the int8 integers stand for. `fixed`
    are weights of the Keras model, from which those of the file may have been folded.
    With `dense_one_scale`, int4 weights of dense layers have one scale, as TensorFlow
    Lite Micro wants; those trained with one for each channel are int8 then.
    """
    sources = _Sources(floats)
    for graph in model["subgraphs"]:
        for number, uses in find_weights(model, graph, TensorType.INT8):
            tensor = graph["tensors"][number]
            values = sources.find(tensor, *real_values(model, tensor))
            given = (bits, fixed, dense_one_scale)
            stored = _integers(model, graph, uses, values, *given)
            if stored is not None and all(
                _takes_scales(model, graph, use, stored) for use in uses
            ):
                _store(model, graph, number, uses, stored)
    keep_weight_grids(model, only_trained=True, fixed=fixed)


def _integers(
    model: Record,
    graph: Record,
    uses: list[WeightUse],
    values: Array,
    bits: int,
    fixed: Sequence[FixedWeight],
    dense_one_scale: bool,
) -> IntegerWeights | None:
    axes = {use.channel_axis(values.ndim) for use in uses}
    narrow = bits == 4 and all(_takes_int4(model, graph, use) for use in uses)
    codes = {use.code for use in uses}
    if narrow and dense_one_scale and codes == {Operator.FULLY_CONNECTED}:
        found = _int4_of_one_scale(values, axes, fixed)
        if found is not None:
            return found
    elif narrow and len(codes) == 1:
        found = as_integers(values, axes, 4, fixed)
        if found is not None:
            return found.spread(min(axes))
    stored = trained_integers(values, axes, 8, fixed)
    if stored is not None and any(use.needs_channels(graph) for use in uses):
        return stored.spread(min(axes))
    return stored


def _int4_of_one_scale(
    values: Array, axes: Collection[int], fixed: Sequence[FixedWeight]
) -> IntegerWeights | None:
    """As `as_integers`; `None` too of what was trained with scales of channels."""
    trained = trained_integers(values, axes, 4, fixed)
    if trained is None:
        return as_integers(values, (), 4)
    return trained if trained.channel_axis is None else None


class _Sources:
    """The float weights that int8 ones were made of."""

    def __init__(self, model: Record | None) -> None:
        self._found: dict[tuple[int, ...], list[tuple[str, Array]]] = {}
        if model is None:
            return
        for tensor in all_tensors(model):
            if tensor["type"] == TensorType.FLOAT32 and is_plain(model, tensor):
                shape = tuple(map(int, tensor["shape"]))
                row = tensor_name(tensor), values_of(model, tensor)
                self._found.setdefault(shape, []).append(row)

    def find(self, tensor: Record, values: Array, scales: Array) -> Array:
        """The floats that round to these values at these scales, else the values.

        Among several, those of the same name.
        """
        near = [
            (name, source)
            for name, source in self._found.get(values.shape, [])
            if (np.abs(source - values) <= SAME * scales).all()
        ]
        near.sort(key=lambda row: row[0] != tensor_name(tensor))
        return near[0][1] if near else values


def _takes_int4(model: Record, graph: Record, use: WeightUse) -> bool:
    if use.position != 1 or use.code not in INT4_VERSIONS:
        return False
    data = graph["tensors"][int(use.operator["inputs"][0])]
    return bool(data["type"] == TensorType.INT8)


def _takes_scales(
    model: Record, graph: Record, use: WeightUse, stored: IntegerWeights
) -> bool:
    """Whether an operator can read weights with other scales: its bias follows."""
    if use.code in (Operator.GATHER, Operator.BATCH_MATMUL):
        return stored.channel_axis is None
    places = WEIGHTED.get(use.code)
    if places is None or use.position != places.weights:
        return False
    inputs = use.operator["inputs"]
    data = graph["tensors"][int(inputs[places.x])]
    if data["type"] not in _BIAS_TYPES:
        return False
    if len(inputs) <= places.bias or inputs[places.bias] < 0:
        return True
    bias = graph["tensors"][int(inputs[places.bias])]
    if bias["type"] not in _BIAS_TYPES[data["type"]] or not is_plain(model, bias):
        return False
    steps = _bias_steps(model, data, bias, stored.scales)
    return bool(np.abs(steps).max(initial=0) <= np.iinfo("int32").max)


def _store(
    model: Record,
    graph: Record,
    number: int,
    uses: list[WeightUse],
    stored: IntegerWeights,
) -> None:
    tensor = graph["tensors"][number]
    stored.put(model, tensor)
    for use in uses:
        if use.code == Operator.GATHER:
            _requantize(model, graph, use.operator, tensor)
        elif use.code in WEIGHTED:
            _rescale_bias(model, graph, use)
        if stored.bits == 4:
            use.raise_version(model, INT4_VERSIONS)


def _bias_steps(
    model: Record, data: Record, bias: Record, weight_scales: Array
) -> Array:
    """A bias in steps of the scales of its inputs and weights."""
    old = np.asarray(bias["quantization"]["scale"], "float64")
    scales = data["quantization"]["scale"][0] * weight_scales.astype("float64")
    return np.asarray(np.rint(values_of(model, bias) * old / scales))


def _rescale_bias(model: Record, graph: Record, use: WeightUse) -> None:
    """Give the bias of an operator the scale of its inputs and weights."""
    places, inputs = WEIGHTED[use.code], use.operator["inputs"]
    if len(inputs) <= places.bias or inputs[places.bias] < 0:
        return
    data, weight = (
        graph["tensors"][int(inputs[place])] for place in (places.x, places.weights)
    )
    bias = own_input(graph, use.operator, places.bias)
    scales = weight["quantization"]["scale"]
    steps = _bias_steps(model, data, bias, scales)
    set_values(model, bias, steps.astype(TensorType(bias["type"]).numpy_type))
    bias["quantization"] = make_scales(data["quantization"]["scale"][0] * scales)


def _requantize(model: Record, graph: Record, gather: Record, table: Record) -> None:
    """Let GATHER give integers in the scale of its table, and QUANTIZE those before."""
    output = int(gather["outputs"][0])
    rows = graph["tensors"][output].copy()
    rows["quantization"] = table["quantization"].copy()
    place = add_tensor(graph, rows)
    gather["outputs"] = np.array([place], "int32")
    quantize = make_operator(
        model, Operator.QUANTIZE, [place], output, version=_QUANTIZE_VERSION
    )
    insert_after(graph, gather, quantize)
