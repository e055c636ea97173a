"""Weights on a grid stay on it in the file: the same integers, the same scale.

The converter gives each output channel the scale that its largest weight asks for.
That undoes few-level grids, and splits values that a whole tensor shares. Here the
weights of a float32 file become int8 or int4 with the scale that they were trained
with, which is read off the values themselves; so it works for any model whose weights
lie on a grid, whatever put them there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.export.integer_weights import (
    HIGHEST,
    IntegerWeights,
    integers_at,
    rounded_to_int4,
    weights_on_grid,
)
from penjing.numerics.grid_detection import find_scale, find_scales, shares_values
from penjing.tflite.graph_edits import add_tensor, set_input
from penjing.tflite.operators import Operator, code_index, number_of, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, empty_unused_buffers, is_plain, values_of

# (Operator, input) that takes weights -> the axis of its output channels.
CHANNEL_AXES: dict[tuple[int, int], int] = {
    (Operator.CONV_2D, 1): 0,
    (Operator.DEPTHWISE_CONV_2D, 1): 3,
    (Operator.FULLY_CONNECTED, 1): 0,
    (Operator.TRANSPOSE_CONV, 1): 0,
    (Operator.GATHER, 0): -1,
    (Operator.BATCH_MATMUL, 0): -2,
    (Operator.BATCH_MATMUL, 1): -1,
    (Operator.CONV_3D, 1): 4,
    (Operator.CONV_3D_TRANSPOSE, 1): 3,
}
# Operators that take int8 weights with float inputs -> the version that does. The
# others read weights through a DEQUANTIZE operator, which runs once.
HYBRID_VERSIONS: dict[int, int] = {
    Operator.CONV_2D: 5,
    Operator.DEPTHWISE_CONV_2D: 6,
    Operator.FULLY_CONNECTED: 12,
}
HYBRID_INT4_VERSIONS: dict[int, int] = {
    Operator.CONV_2D: 7,
    Operator.FULLY_CONNECTED: 12,
}
DEQUANTIZE_VERSIONS = {4: 6, 8: 5}  # by the bits of what they read
SMALLEST_WITHOUT_GRID = 1024  # elements; the converter leaves smaller ones in float


def has_weight_grids(model: keras.Model) -> bool:
    """Whether weights of a model lie on a grid or share few values.

    Args:
        model: A built Keras model.

    Returns:
        Whether `keep_weight_grids` would keep what the converter would undo.
    """
    return any(
        _is_kept(ops.convert_to_numpy(variable.value))
        for variable in model.weights
        if len(variable.shape) > 1
        and keras.backend.standardize_dtype(variable.dtype) == "float32"
    )


def keep_weight_grids(
    model: Record, *, bits: int = 8, weight_only: bool = False
) -> None:
    """Make the weights of a float32 file integers, each on the grid that it lies on.

    With 8 bits, a tensor that lies on none, but has few distinct values, gets one
    scale, so that it has no more of them afterwards; other large ones get a scale for
    each channel, as the converter gives them. With 4 bits, those that lie on no grid of
    15 levels get the scales with the least squared error. Operators with float inputs
    and integer weights quantize their inputs while they run; before others the weights
    become floats again. DEPTHWISE_CONV_2D takes no int4 weights beside float inputs, so
    its weights stay int8, unless they are to become floats.

    Args:
        model: The table of a model that was converted without quantization; it is
            changed.
        bits: 8 or 4.
        weight_only: Let all weights become floats again, so that nothing else is
            quantized.
    """
    writer = _Writer(model, weight_only)
    for graph in model["subgraphs"]:
        for number, uses in _weights(model, graph):
            values = values_of(model, graph["tensors"][number])
            takes_int4 = weight_only or _takes_int4(uses)
            stored = _stored(values, uses, bits if takes_int4 else 8)
            if stored is not None:
                writer.store(graph, number, uses, stored)
    empty_unused_buffers(model)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Use:
    """An operator that reads a tensor."""

    operator: Record
    position: int
    code: int

    @property
    def channel_axis(self) -> int | None:
        """The axis of output channels, where the operator reads weights there."""
        return CHANNEL_AXES.get((self.code, self.position))


def _is_kept(values: np.ndarray[Any, Any]) -> bool:
    if not values.any():
        return False
    if find_scale(values) is not None or shares_values(values):
        return True
    shape = values.shape
    for channels in ((-1,), (-2,), (-2, -1)):
        rows = np.moveaxis(values, channels, range(len(channels)))
        rows = rows.reshape(int(np.prod([shape[axis] for axis in channels])), -1)
        if rows.shape[1] > 1 and find_scales(rows, 0) is not None:
            return True
    return False


def _weights(model: Record, graph: Record) -> Iterator[tuple[int, list[_Use]]]:
    """Float tensors of a graph that only operators with weights read."""
    uses: dict[int, list[_Use]] = {}
    for operator in graph["operators"]:
        code = operator_code(model, operator)
        for position, number in enumerate(operator["inputs"]):
            use = _Use(operator=operator, position=position, code=code)
            uses.setdefault(int(number), []).append(use)
    outputs = set(map(int, graph["outputs"]))
    for number, tensor in enumerate(graph["tensors"]):
        readers = uses.get(number, [])
        if (
            tensor["type"] == TensorType.FLOAT32
            and len(tensor["shape"]) > 1
            and readers
            and number not in outputs
            and is_plain(model, tensor)
            and all(use.channel_axis is not None for use in readers)
        ):
            yield number, readers


def _is_hybrid(uses: list[_Use], versions: dict[int, int]) -> bool:
    return all(use.code in versions for use in uses)


def _takes_int4(uses: list[_Use]) -> bool:
    in_floats = not _is_hybrid(uses, HYBRID_VERSIONS)  # behind DEQUANTIZE
    return in_floats or _is_hybrid(uses, HYBRID_INT4_VERSIONS)


def _stored(
    values: np.ndarray[Any, Any], uses: list[_Use], bits: int
) -> IntegerWeights | None:
    """The integers of a weight; `None` where it should stay as it is."""
    axes = {int(use.channel_axis or 0) % values.ndim for use in uses}
    found = weights_on_grid(values, axes, bits)
    if found is not None:
        return found
    is_large = values.size >= SMALLEST_WITHOUT_GRID
    if bits == 4:
        channel_axis = min(axes) if len(axes) == 1 else None
        return rounded_to_int4(values, channel_axis) if is_large else None
    largest = np.abs(values).max()
    if shares_values(values):
        scales = np.array([largest / HIGHEST[bits]], "float32")
        return integers_at(values, scales, None, bits)
    if not is_large or len(axes) > 1:
        return None
    axis = axes.pop()
    others = tuple(i for i in range(values.ndim) if i != axis)
    scales = np.abs(values).max(axis=others).astype("float32") / HIGHEST[bits]
    scales = np.where(scales > 0, scales, 1).astype("float32")
    return integers_at(values, scales, axis, bits)


class _Writer:
    """Puts stored weights into a model; tensors that shared bytes share them again."""

    def __init__(self, model: Record, weight_only: bool) -> None:
        self._model = model
        self._weight_only = weight_only
        self._buffers: dict[bytes, int] = {}

    def store(
        self, graph: Record, number: int, uses: list[_Use], stored: IntegerWeights
    ) -> None:
        """Make a tensor integer, and let its readers take it."""
        tensor = graph["tensors"][number]
        floats = tensor.copy()
        is_hybrid = not self._weight_only and _is_hybrid(uses, HYBRID_VERSIONS)
        if is_hybrid and any(_needs_channels(graph, tensor, use) for use in uses):
            stored = stored.spread(int(uses[0].channel_axis or 0))
        tensor["type"] = stored.tensor_type
        tensor["buffer"] = self._buffer(stored.stored())
        tensor["quantization"] = stored.quantization()
        if is_hybrid:
            self._make_hybrid(uses, stored.bits)
        else:
            floats["buffer"] = 0
            self._dequantize(graph, number, floats, uses, stored)

    def _buffer(self, data: bytes) -> int:
        if data not in self._buffers:
            buffer = Record("Buffer", data=np.frombuffer(data, "u1"))
            self._model["buffers"] = [*self._model["buffers"], buffer]
            self._buffers[data] = len(self._model["buffers"]) - 1
        return self._buffers[data]

    def _make_hybrid(self, uses: list[_Use], bits: int) -> None:
        codes = self._model["operator_codes"]
        versions = HYBRID_INT4_VERSIONS if bits == 4 else HYBRID_VERSIONS
        for use in uses:
            code = codes[use.operator["opcode_index"]]
            code["version"] = max(code["version"], versions[use.code])
            if use.code == Operator.FULLY_CONNECTED:
                use.operator["builtin_options"]["asymmetric_quantize_inputs"] = True

    def _dequantize(
        self,
        graph: Record,
        number: int,
        floats: Record,
        uses: list[_Use],
        stored: IntegerWeights,
    ) -> None:
        """Let the readers take a new tensor, which DEQUANTIZE fills at the start."""
        place = add_tensor(graph, floats)
        for use in uses:
            set_input(use.operator, use.position, place)
        dequantize = Record(
            "Operator",
            opcode_index=self._dequantize_code(DEQUANTIZE_VERSIONS[stored.bits]),
            inputs=np.array([number], "int32"),
            outputs=np.array([place], "int32"),
            builtin_options=Record("DequantizeOptions"),
        )
        graph["operators"] = [dequantize, *graph["operators"]]

    def _dequantize_code(self, version: int) -> int:
        for index, code in enumerate(self._model["operator_codes"]):
            if number_of(code) == Operator.DEQUANTIZE:
                code["version"] = max(code["version"], version)
                return index
        return code_index(self._model, Operator.DEQUANTIZE, version)


def _needs_channels(graph: Record, tensor: Record, use: _Use) -> bool:
    """Whether a kernel computes something else with one scale for its weights.

    That of depthwise convolutions reads one for each channel, whether it is there or
    not; that of grouped convolutions asks for them.
    """
    inputs = graph["tensors"][int(use.operator["inputs"][0])]
    if use.code == Operator.CONV_2D:
        return bool(inputs["shape"][-1] != tensor["shape"][-1])
    return use.code == Operator.DEPTHWISE_CONV_2D
