"""Loops, judged by one turn: body and condition as files of their own.

What a loop gives is the sum of the roundings of all its turns, in floats that stand for
integers within. So the body is compared as any file is, operator by operator, on what
the loop begins with and on what the first turns make of it; so is the condition. That
the loop takes as many turns is seen by what it ends with: the condition no longer
holds, and integers that stand for themselves, such as counters, are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.runtime.reference_runner import ReferenceRunner
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record, pointed_to
from penjing.tflite.stored_tensors import numbers_of
from penjing.tflite.writing import write_records

TURNS = 3

Array = np.ndarray[Any, Any]


class LoopBody:
    """The body of a loop of the main graph, the operator with that number.

    Attributes:
        content: It as a file; None where the operator is no loop.
        condition: What says whether the loop goes on, as a file of the same inputs.
        given: The tensors that the loop begins with.
        constants: The values of those that are constants, else None.
    """

    def __init__(self, content: bytes, where: str, number: int) -> None:
        model = load_records(content, where)
        graph = model["subgraphs"][0]
        operator = graph["operators"][number]
        self.content: bytes | None = None
        self.condition: bytes | None = None
        self.given = [int(tensor) for tensor in operator["inputs"]]
        tensors = [graph["tensors"][tensor] for tensor in self.given]
        self.constants = [numbers_of(model, tensor) for tensor in tensors]
        if operator_code(model, operator) == Operator.WHILE:
            options = operator["builtin_options"]
            self.content = _as_file(model, options["body_subgraph_index"])
            self.condition = _as_file(model, options["cond_subgraph_index"])

    def goes_on(
        self, ends: Sequence[Sequence[Array]], runner: ReferenceRunner, where: str
    ) -> bool:
        """Whether the loop would have to go on after any of the `ends` that it gave."""
        return any(self._conditions(ends, runner, where))

    def _conditions(
        self, ends: Sequence[Sequence[Array]], runner: ReferenceRunner, where: str
    ) -> list[bool]:
        run = runner.run(self.condition or b"", ends, where=where)
        return [bool(np.any(outputs[0])) for outputs in run.outputs]

    def turns(
        self, starts: Sequence[Sequence[Array]], runner: ReferenceRunner, where: str
    ) -> tuple[list[list[Array]], list[list[Array]]]:
        """What the first turns begin with, for all the `starts` of the loop.

        First for its body, which runs no oftener than the loop would; then for its
        condition, which is asked once more.
        """
        last = [list(arrays) for arrays in starts]
        entered: list[list[Array]] = []
        asked: list[list[Array]] = []
        for _ in range(TURNS):
            goes_on = self._conditions(last, runner, where)
            asked += last
            last = [arrays for arrays, on in zip(last, goes_on, strict=True) if on]
            if not last:
                break
            entered += last
            run = runner.run(self.content or b"", last, where=where)
            last = [list(outputs) for outputs in run.outputs]
        return entered, asked


def _as_file(model: Record, place: int) -> bytes:
    """A graph in place of the main one; others stay where it needs some."""
    file = model.copy()
    graph = model["subgraphs"][place].copy()
    is_nested = any(pointed_to(operator, "graph") for operator in graph["operators"])
    others = model["subgraphs"][1:] if is_nested else []
    file["subgraphs"] = [graph, *others]
    file.drop("signature_defs")
    return write_records(file)
