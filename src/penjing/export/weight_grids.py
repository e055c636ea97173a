"""Weights on a grid stay on it in the file: the same integers, the same scale.

The converter gives each output channel the scale that its largest weight asks for.
That undoes few-level grids, and splits values that a whole tensor shares. Here the
weights of a float32 file become int8 or int4 with the scale that they were trained
with, which is read off the values themselves; so it works for any model whose weights
lie on a grid, whatever put them there.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.export.integer_weights import IntegerWeights, as_integers
from penjing.export.weight_uses import WeightUse, find_weights
from penjing.numerics.grid_detection import find_scale, find_scales, shares_values
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.graph_edits import add_tensor, set_input
from penjing.tflite.operators import Operator, code_index, number_of
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, values_of

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


def has_weight_grids(model: keras.Model) -> bool:
    """Whether weights of a model lie on a grid or share few values.

    Then `keep_weight_grids` would keep what the converter would undo.
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
    become floats again, and with `weight_only` before all, so that nothing else is
    quantized. DEPTHWISE_CONV_2D takes no int4 weights beside float inputs, so its
    weights stay int8, unless they are to become floats. The model, which was converted
    without quantization, is changed in place.
    """
    writer = _Writer(model, weight_only)
    for graph in model["subgraphs"]:
        for number, uses in find_weights(model, graph, TensorType.FLOAT32):
            values = values_of(model, graph["tensors"][number])
            axes = {use.channel_axis(values.ndim) for use in uses}
            takes_int4 = weight_only or _takes_int4(uses)
            stored = as_integers(values, axes, bits if takes_int4 else 8)
            if stored is not None:
                writer.store(graph, number, uses, stored)
    share_buffers(model, keep_order=True)


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


def _is_hybrid(uses: list[WeightUse], versions: dict[int, int]) -> bool:
    return all(use.code in versions for use in uses)


def _takes_int4(uses: list[WeightUse]) -> bool:
    in_floats = not _is_hybrid(uses, HYBRID_VERSIONS)  # behind DEQUANTIZE
    return in_floats or _is_hybrid(uses, HYBRID_INT4_VERSIONS)


class _Writer:
    """Puts stored weights into a model."""

    def __init__(self, model: Record, weight_only: bool) -> None:
        self._model = model
        self._weight_only = weight_only

    def store(
        self, graph: Record, number: int, uses: list[WeightUse], stored: IntegerWeights
    ) -> None:
        """Make a tensor integer, and let its readers take it."""
        tensor = graph["tensors"][number]
        floats = tensor.copy()
        is_hybrid = not self._weight_only and _is_hybrid(uses, HYBRID_VERSIONS)
        if is_hybrid and any(_needs_channels(graph, tensor, use) for use in uses):
            stored = stored.spread(uses[0].channel_axis(len(tensor["shape"])))
        stored.put(self._model, tensor)
        if is_hybrid:
            self._make_hybrid(uses, stored.bits)
        else:
            floats["buffer"] = 0
            self._dequantize(graph, number, add_tensor(graph, floats), stored.bits)
            for use in uses:
                set_input(use.operator, use.position, len(graph["tensors"]) - 1)

    def _make_hybrid(self, uses: list[WeightUse], bits: int) -> None:
        for use in uses:
            use.raise_version(
                self._model, HYBRID_INT4_VERSIONS if bits == 4 else HYBRID_VERSIONS
            )
            if use.code == Operator.FULLY_CONNECTED:
                use.operator["builtin_options"]["asymmetric_quantize_inputs"] = True

    def _dequantize(self, graph: Record, source: int, result: int, bits: int) -> None:
        """Let DEQUANTIZE fill a tensor at the start."""
        dequantize = Record(
            "Operator",
            opcode_index=self._dequantize_code(DEQUANTIZE_VERSIONS[bits]),
            inputs=np.array([source], "int32"),
            outputs=np.array([result], "int32"),
            builtin_options=Record("DequantizeOptions"),
        )
        graph["operators"] = [dequantize, *graph["operators"]]

    def _dequantize_code(self, version: int) -> int:
        for index, code in enumerate(self._model["operator_codes"]):
            if number_of(code) == Operator.DEQUANTIZE:
                code["version"] = max(code["version"], version)
                return index
        return code_index(self._model, Operator.DEQUANTIZE, version)


def _needs_channels(graph: Record, tensor: Record, use: WeightUse) -> bool:
    """Whether a kernel computes something else with one scale for its weights.

    That of depthwise convolutions reads one for each channel, whether it is there or
    not; that of grouped convolutions asks for them.
    """
    inputs = graph["tensors"][int(use.operator["inputs"][0])]
    if use.code == Operator.CONV_2D:
        return bool(inputs["shape"][-1] != tensor["shape"][-1])
    return use.code == Operator.DEPTHWISE_CONV_2D
