"""Weights on a grid stay on it in the file: the same integers, the same scale.

The converter gives each output channel the scale that its largest weight asks for.
That undoes few-level grids, and splits values that a whole tensor shares. Here the
weights of a float32 file become int8 or int4 with the scale that they were trained
with, which is read off the values themselves; so it works for any model whose weights
lie on a grid, whatever put them there.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np

from penjing.export.weights.fixed_weights import (
    FixedWeight,
    fixed_weights,
    lies_on_grid,
    weights_of,
)
from penjing.export.weights.integer_weights import (
    IntegerWeights,
    as_integers,
    trained_integers,
    weights_on_grid,
)
from penjing.export.weights.weight_uses import WeightUse, find_weights
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.graph_edits import add_tensor, insert_after, set_input
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
SAME = 0.51  # steps that int8 rounding moves a weight, and a little
DEQUANTIZE_VERSIONS = {4: 6, 8: 5}  # by the bits of what they read


def has_weight_grids(model: keras.Model) -> bool:
    """Whether weights of a model lie on a grid or share few values.

    Then `keep_weight_grids` would keep what the converter would undo.
    """
    return any(w.keeps_integers for w in fixed_weights(weights_of(model)))


def has_tables_twice(model: Record) -> bool:
    """Whether a file holds a table once for GATHER, and once for a product.

    So it is where the converter rounds a table that a model multiplies by too.
    """
    for graph in model["subgraphs"]:
        weights = dict(find_weights(model, graph, TensorType.INT8))
        floats = dict(find_weights(model, graph, TensorType.FLOAT32))
        for number, uses in {**floats, **weights}.items():
            if all(use.code == Operator.GATHER for use in uses) and any(
                _is_same_table(model, graph["tensors"][number], graph["tensors"][other])
                for other in weights
                if other != number
            ):
                return True
    return False


def keep_weight_grids(
    model: Record,
    *,
    bits: int = 8,
    weight_only: bool = False,
    only_trained: bool = False,
    fixed: Sequence[FixedWeight] = (),
) -> None:
    """Make the weights of a float32 file integers, each on the grid that it lies on.

    With 8 bits, a tensor that lies on none, but has few distinct values, gets one
    scale, so that it has no more of them afterwards; other large ones get a scale for
    each channel, as the converter gives them. With 4 bits, those that lie on no grid of
    15 levels get the scales with the least squared error; on one of 8 bits they stay
    where others of the model lie on one of 4: bits were chosen layer by layer.
    Operators with float inputs and integer weights quantize their inputs while they
    run; before others the weights become floats again, and with `weight_only` before
    all, so that nothing else is quantized. DEPTHWISE_CONV_2D takes no int4 weights
    beside float inputs, so its weights stay int8, unless they are to become floats.
    With `only_trained` what lies on no grid and shares no values stays as it is.
    `fixed` are weights of the Keras model, from which those of the file may have been
    folded. The model, which was converted without quantization, is changed in place.
    """
    writer = _Writer(model, weight_only)
    few_levels = functools.cache(lambda: has_few_levels(fixed))
    for graph in model["subgraphs"]:
        for number, uses in find_weights(model, graph, TensorType.FLOAT32):
            values = values_of(model, graph["tensors"][number])
            width = bits if weight_only or _takes_int4(uses) else 8
            hybrid = [] if weight_only else [use for use in uses if _is_hybrid(use)]
            axes = {use.channel_axis(values.ndim) for use in hybrid or uses}
            stored, hybrid = _trained(values, axes, uses, hybrid, width, fixed)
            if stored is None and width == 4 and lies_on_grid(values) and few_levels():
                stored, hybrid = _trained(values, axes, uses, hybrid, 8, fixed)
            if stored is None and not only_trained:
                # A table that is looked up too has one scale: its rows become floats
                # one by one then.
                tied = width == 8 and 0 < len(hybrid) < len(uses)
                stored = as_integers(values, set() if tied else axes, width)
            if stored is not None:
                writer.store(graph, number, uses, hybrid, stored)
    share_buffers(model, keep_order=True)


def has_few_levels(fixed: Sequence[FixedWeight]) -> bool:
    """Whether any weight lies on a grid of 4 bits."""
    return any(
        weights_on_grid(weight.values, range(weight.values.ndim), 4) is not None
        for weight in fixed
        if weight.is_on_grid and weight.values.ndim > 1
    )


def _trained(
    values: np.ndarray[Any, Any],
    axes: Collection[int],
    uses: list[WeightUse],
    hybrid: list[WeightUse],
    width: int,
    fixed: Sequence[FixedWeight],
) -> tuple[IntegerWeights | None, list[WeightUse]]:
    """The integers that training left, and the readers that take them as they are."""
    stored = trained_integers(values, axes, width, fixed)
    if stored is None and len(hybrid) < len(uses):
        # What becomes floats again may have scales along any axis.
        stored = trained_integers(values, range(values.ndim), width, fixed)
        hybrid = hybrid if stored is None else []
    return stored, hybrid


def real_values(
    model: Record, tensor: Record
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What int8 weights stand for, and their scales, aligned with them."""
    integers = values_of(model, tensor).astype("float32")
    scales = np.asarray(tensor["quantization"]["scale"], "float32")
    if scales.size > 1:
        axis = int(tensor["quantization"]["quantized_dimension"])
        scales = scales.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
    points = tensor["quantization"]["zero_point"]
    if len(points) == 1:  # a table, as activations have one
        integers -= np.float32(points[0])
    return (integers * scales).astype("float32"), scales


def _takes_int4(uses: list[WeightUse]) -> bool:
    """Whether all that read a weight take int4, or floats that are made of it."""
    return all(
        use.code in HYBRID_INT4_VERSIONS or use.code not in HYBRID_VERSIONS
        for use in uses
    )


def _is_same_table(model: Record, table: Record, other: Record) -> bool:
    """Whether int8 weights are those of a table, but for rounding."""
    if not np.array_equal(table["shape"], other["shape"]):
        return False
    values, scales = real_values(model, other)
    if table["type"] == TensorType.FLOAT32:
        return bool((np.abs(values_of(model, table) - values) <= SAME * scales).all())
    theirs, coarse = real_values(model, table)
    return bool((np.abs(theirs - values) <= SAME * (scales + coarse)).all())


def _is_hybrid(use: WeightUse) -> bool:
    return use.code in HYBRID_VERSIONS


class _Writer:
    """Puts stored weights into a model."""

    def __init__(self, model: Record, weight_only: bool) -> None:
        self._model = model
        self._weight_only = weight_only

    def store(
        self,
        graph: Record,
        number: int,
        uses: list[WeightUse],
        hybrid: list[WeightUse],
        stored: IntegerWeights,
    ) -> None:
        """Make a tensor integer, which some of its readers take, and others as floats.

        `hybrid` are those that take it.
        """
        tensor = graph["tensors"][number]
        floats = tensor.copy()
        if any(use.needs_channels(graph) for use in hybrid):
            stored = stored.spread(hybrid[0].channel_axis(len(tensor["shape"])))
        stored.put(self._model, tensor)
        self._make_hybrid(hybrid, stored.bits)
        others = [use for use in uses if use not in hybrid]
        if stored.bits == 8 and stored.channel_axis is None and not self._weight_only:
            rows = [use for use in others if use.code == Operator.GATHER]
            for use in rows:
                self._dequantize_rows(graph, use.operator, tensor)
            others = [use for use in others if use not in rows]
        if others:
            floats["buffer"] = 0
            self._dequantize(graph, number, add_tensor(graph, floats), stored.bits)
            for use in others:
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
        first = self._dequantizing(source, result, bits)
        graph["operators"] = [first, *graph["operators"]]

    def _dequantize_rows(self, graph: Record, gather: Record, table: Record) -> None:
        """Let GATHER give integers, and DEQUANTIZE make floats of these alone."""
        output = int(gather["outputs"][0])
        rows = graph["tensors"][output].copy()
        rows["type"] = table["type"]
        rows["quantization"] = table["quantization"].copy()
        place = add_tensor(graph, rows)
        gather["outputs"] = np.array([place], "int32")
        insert_after(graph, gather, self._dequantizing(place, output, 8))

    def _dequantizing(self, source: int, result: int, bits: int) -> Record:
        return Record(
            "Operator",
            opcode_index=self._dequantize_code(DEQUANTIZE_VERSIONS[bits]),
            inputs=np.array([source], "int32"),
            outputs=np.array([result], "int32"),
            builtin_options=Record("DequantizeOptions"),
        )

    def _dequantize_code(self, version: int) -> int:
        for index, code in enumerate(self._model["operator_codes"]):
            if number_of(code) == Operator.DEQUANTIZE:
                code["version"] = max(code["version"], version)
                return index
        return code_index(self._model, Operator.DEQUANTIZE, version)
