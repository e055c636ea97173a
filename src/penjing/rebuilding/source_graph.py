"""The graph of a file as rules read it: real numbers, plain shapes, names."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.tflite.operators import Call, Operator, calls
from penjing.tflite.records import Record
from penjing.tflite.stored_tensors import numbers_of
from penjing.tflite.tensors import TensorType, tensor_name

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SourceGraph:
    """What the first graph of a file holds.

    Tensors are known by their numbers.
    """

    model: Record

    @property
    def tensors(self) -> list[Record]:
        """The tensors of the graph."""
        found: list[Record] = self.model["subgraphs"][0]["tensors"]
        return found

    @functools.cached_property
    def inputs(self) -> tuple[int, ...]:
        """The tensors that are given."""
        return tuple(map(int, self.model["subgraphs"][0]["inputs"]))

    @functools.cached_property
    def outputs(self) -> tuple[int, ...]:
        """The tensors that are the result."""
        return tuple(map(int, self.model["subgraphs"][0]["outputs"]))

    @functools.cached_property
    def calls(self) -> list[Call]:
        """The operators in the order in which they run.

        Left out are those whose input is a constant and that only widen its numbers: a
        reader sees real numbers anyway.
        """
        found = list(calls(self.model, self.model["subgraphs"][0]))
        widened = self._widened
        return [call for call in found if not set(call.outputs) & widened.keys()]

    @functools.cached_property
    def batch(self) -> int:
        """Length of the first axis of the first input."""
        shape = self.shape(self.inputs[0]) if self.inputs else ()
        return shape[0] if shape else 1

    def name(self, number: int) -> str:
        """What the file calls a tensor."""
        return tensor_name(self.tensors[number])

    def shape(self, number: int) -> tuple[int, ...]:
        """The stored shape of a tensor."""
        return tuple(int(size) for size in self.tensors[number]["shape"])

    def kind(self, number: int) -> TensorType:
        """The stored type of a tensor."""
        return TensorType(self.tensors[number]["type"])

    def grid(self, number: int) -> tuple[Array, Array] | None:
        """Scales and zero points of a tensor of integers, shaped to meet its values.

        None for floats and for integers that stand for themselves.
        """
        tensor = self.tensors[number]
        table = tensor["quantization"]
        if table is None or not len(table["scale"]) or not self._is_integer(number):
            return None
        scales = np.asarray(table["scale"], "f4")
        axis, shape = int(table["quantized_dimension"]), self.shape(number)
        fits = scales.size == 1 or (
            0 <= axis < len(shape) and shape[axis] == scales.size
        )
        if not fits or not np.isfinite(scales).all() or not (scales > 0).all():
            raise FileFormatError(
                f"The tensor {self.name(number)!r} has {scales.size} scales from "
                f"{scales.min():g} to {scales.max():g} along axis {axis} of {shape}; "
                "they must be positive, one or as many as the axis is long. The file "
                "is damaged."
            )
        points = np.resize(np.asarray(table["zero_point"], "i8"), scales.shape)
        if not len(table["zero_point"]):
            points = np.zeros(scales.shape, "i8")
        if scales.size > 1:
            aligned = [-1 if n == axis else 1 for n in range(len(shape))]
            return scales.reshape(aligned), points.reshape(aligned)
        return scales.reshape(()), points.reshape(())

    def _is_integer(self, number: int) -> bool:
        kind = self.kind(number)
        if kind.numpy_type is None or kind == TensorType.BOOL:
            return False
        return np.dtype(kind.numpy_type).kind in "iu"

    def ends(self, number: int) -> tuple[float, float] | None:
        """The least and the largest value of a tensor of integers with one scale."""
        grid = self.grid(number)
        if grid is None or grid[0].size > 1:
            return None
        limits = np.iinfo(self.kind(number).numpy_type)
        scale, point = float(grid[0]), int(grid[1])
        return (limits.min - point) * scale, (limits.max - point) * scale

    def real(self, number: int, stored: Array) -> Array:
        """What stored numbers of a tensor stand for: float32 if it has a grid."""
        grid = self.grid(number)
        if grid is None:
            return stored.astype("f4") if stored.dtype.kind == "f" else stored
        scales, points = grid
        return np.asarray((stored.astype("i8") - points).astype("f4") * scales, "f4")

    def constant(self, number: int) -> Array | None:
        """The real numbers of a constant in its shape; None where it is computed."""
        stored = self._stored(number)
        source = self._widened.get(number, number)
        return None if stored is None else self.real(source, stored)

    def is_constant(self, number: int) -> bool:
        """Whether `constant` gives numbers, without making them."""
        return self._stored(number) is not None

    def _stored(self, number: int) -> Array | None:
        number = self._widened.get(number, number)
        if number < 0:
            return None
        stored = numbers_of(self.model, self.tensors[number])
        if stored is None and 0 in self.shape(number) and number not in self._computed:
            stored = np.zeros(self.shape(number), self.kind(number).numpy_type)
        return stored

    @functools.cached_property
    def _computed(self) -> set[int]:
        graph = self.model["subgraphs"][0]
        made = (number for call in calls(self.model, graph) for number in call.outputs)
        return {*self.inputs, *made}

    @functools.cached_property
    def _widened(self) -> dict[int, int]:
        """Outputs of operators that widen a constant -> the constant."""
        found: dict[int, int] = {}
        for call in calls(self.model, self.model["subgraphs"][0]):
            if call.code in (Operator.DEQUANTIZE, Operator.DENSIFY) and (
                call.inputs and call.outputs
            ):
                source = found.get(call.inputs[0], call.inputs[0])
                if numbers_of(self.model, self.tensors[source]) is not None:
                    found[call.output] = source
        return found


def hybrid_weights(graph: SourceGraph) -> list[int]:
    """Constants of integers with a grid that operators on floats read."""
    found = []
    for call in graph.calls:
        if call.code in (Operator.DEQUANTIZE, Operator.QUANTIZE):
            continue
        if not call.outputs or graph.kind(call.output) != TensorType.FLOAT32:
            continue
        for number in call.inputs:
            if number >= 0 and graph.grid(number) is not None:
                found.append(number)
    return [n for n in dict.fromkeys(found) if graph.constant(n) is not None]
