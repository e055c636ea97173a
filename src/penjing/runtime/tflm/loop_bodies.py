"""Loops, judged by one turn: the body as a file of its own.

What a loop gives is the sum of the roundings of all its turns, in floats that stand for
integers within. So the body is compared as any file is, operator by operator, on what
the loop begins with and on what the first turns make of it.
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
        given: The tensors that the loop begins with.
        constants: The values of those that are constants, else None.
    """

    def __init__(self, content: bytes, where: str, number: int) -> None:
        model = load_records(content, where)
        graph = model["subgraphs"][0]
        operator = graph["operators"][number]
        self.content: bytes | None = None
        self.given = [int(tensor) for tensor in operator["inputs"]]
        tensors = [graph["tensors"][tensor] for tensor in self.given]
        self.constants = [numbers_of(model, tensor) for tensor in tensors]
        if operator_code(model, operator) == Operator.WHILE:
            self.content = _as_file(model, operator)

    def turns(
        self, starts: Sequence[Sequence[Array]], runner: ReferenceRunner, where: str
    ) -> list[list[Array]]:
        """What the first turns begin with, for each of the `starts` of the loop."""
        rounds = [list(arrays) for arrays in starts]
        for _ in range(TURNS - 1):
            last = rounds[-len(starts) :]
            run = runner.run(self.content or b"", last, where=where)
            rounds += [list(outputs) for outputs in run.outputs]
        return rounds


def _as_file(model: Record, loop: Record) -> bytes:
    """The body in place of the main graph; others stay where it needs some."""
    place = loop["builtin_options"]["body_subgraph_index"]
    body = model["subgraphs"][place].copy()
    is_nested = any(pointed_to(operator, "graph") for operator in body["operators"])
    others = model["subgraphs"][1:] if is_nested else []
    model["subgraphs"] = [body, *others]
    model.drop("signature_defs")
    return write_records(model)
