"""Operators that take the place of one, being written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.tflite.graph_edits import add_tensor, make_operator
from penjing.tflite.operators import Operator, calls
from penjing.tflite.records import Record
from penjing.tflite.stored_tensors import numbers_of
from penjing.tflite.tensors import TensorType, set_values

Array = np.ndarray[Any, Any]
_TYPES = {"f": TensorType.FLOAT32, "i": TensorType.INT32}


class Composition:
    """What replaces an operator of a graph.

    `call` is that operator in numbers, `version` its version, `operators` are those
    written so far. Tensors are known by their numbers.
    """

    def __init__(self, model: Record, graph: Record, operator: Record) -> None:
        self.model = model
        self.graph = graph
        view = Record("SubGraph", operators=[operator])
        (self.call,) = calls(model, view)
        code = model["operator_codes"][operator["opcode_index"]]
        self.version = int(code["version"])
        self.operators: list[Record] = []

    def record(self, number: int) -> Record:
        """The record of a tensor."""
        record: Record = self.graph["tensors"][number]
        return record

    def kind(self, number: int) -> TensorType:
        """The type of a tensor."""
        return TensorType(self.record(number)["type"])

    def shape(self, number: int) -> list[int]:
        """The shape of a tensor."""
        return [int(size) for size in self.record(number)["shape"]]

    def values(self, number: int) -> Array | None:
        """The values of a constant; None of what is computed."""
        return None if number < 0 else numbers_of(self.model, self.record(number))

    def tensor(
        self,
        like: int,
        shape: Sequence[int] | None = None,
        kind: TensorType | None = None,
    ) -> int:
        """A new tensor like another one; of another type it has no scale."""
        twin = self.record(like).copy()
        if shape is not None:
            twin["shape"] = np.array(shape, "<i4")
        twin.drop("buffer", "is_variable")
        if kind is not None:
            twin["type"] = kind
            twin.drop("quantization")
        return add_tensor(self.graph, twin)

    def constant(self, values: Any, dtype: str, like: int | None = None) -> int:
        """A new constant, of the type and the scale of a tensor `like` it."""
        array = np.asarray(values, dtype)
        item = Record("Tensor", shape=np.array(array.shape, "<i4"))
        item["type"] = _TYPES.get(array.dtype.kind, TensorType.INT32)
        if like is not None:
            item["type"] = self.record(like)["type"]
            item["quantization"] = self.record(like)["quantization"]
        set_values(self.model, item, array)
        return add_tensor(self.graph, item)

    def add(
        self,
        code: Operator,
        inputs: Sequence[int],
        output: int,
        options: Record | None = None,
        version: int = 1,
    ) -> int:
        """Write an operator; gives its output."""
        made = make_operator(
            self.model, code, inputs, output, options=options, version=version
        )
        self.operators.append(made)
        return output

    def reshape(self, number: int, shape: Sequence[int], output: int = -1) -> int:
        """Write a RESHAPE, to a new tensor or to one that is there."""
        output = self.tensor(number, shape) if output < 0 else output
        return self.add(Operator.RESHAPE, [number, self.constant(shape, "<i4")], output)

    def pair(self, code: Operator, one: int, other: int, output: int = -1) -> int:
        """Write an operator of arithmetic on two tensors, of the first one's shape."""
        output = self.tensor(one) if output < 0 else output
        return self.add(code, [one, other], output, Record(_OPTIONS[code]), 1)


_OPTIONS = {
    Operator.ADD: "AddOptions",
    Operator.SUB: "SubOptions",
    Operator.MUL: "MulOptions",
    Operator.DIV: "DivOptions",
}
