"""A walk through the operators of a graph, which knows the constants behind tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from penjing.tflite.operators import Call, Operator, calls
from penjing.tflite.records import Record
from penjing.tflite.tensors import is_plain, values_of


class GraphWalk:
    """What is known of the tensors of a graph on the way through its operators."""

    def __init__(self, model: Record, number: int) -> None:
        self.model = model
        self._number = number
        self._graph = model["subgraphs"][number]
        self._tensors = self._graph["tensors"]
        self._sources: dict[int, int] = {}

    def calls(self) -> Iterator[Call]:
        """The operators, but for those that unpack constants."""
        for call in calls(self.model, self._graph):
            if (
                call.code == Operator.DEQUANTIZE
                and self.source(call.inputs[0]) is not None
            ):
                self._sources[call.output] = call.inputs[0]
            else:
                yield call

    def shape(self, number: int) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(int(size) for size in self._tensors[number]["shape"])

    def last(self, number: int) -> int:
        """The size of its last axis."""
        return (self.shape(number) or (1,))[-1]

    def source(self, number: int) -> int | None:
        """The constant behind a tensor, also through a DEQUANTIZE."""
        number = self._sources.get(number, number)
        if number >= 0 and is_plain(self.model, self._tensors[number]):
            return number
        return None

    def values(self, number: int) -> np.ndarray[Any, Any]:
        """The numbers of a constant."""
        return values_of(self.model, self._tensors[number])
