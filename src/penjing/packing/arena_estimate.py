"""What the arena must hold at once, estimated from sizes and lifetimes of tensors."""

from __future__ import annotations

import math

from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, data_of

_ALIGNMENT = 16


def live_bytes(model: Record) -> list[list[int]]:
    """Bytes of the tensors that live while each operator of each graph runs.

    An estimate: the memory planner may leave gaps, and kernels, operators and
    descriptions of tensors take memory too.
    """
    return [_live_in(model, graph) for graph in model["subgraphs"]]


def arena_estimate(model: Record) -> int:
    """Bytes that the arena must hold at once; graphs within loops count in full."""
    return sum(max(steps, default=0) for steps in live_bytes(model))


def _live_in(model: Record, graph: Record) -> list[int]:
    operators = graph["operators"]
    if not operators:  # a branch that hands its input on
        return []
    first: dict[int, int] = {int(n): 0 for n in graph["inputs"] if n >= 0}
    last: dict[int, int] = {}
    for step, operator in enumerate(operators):
        for number in map(int, operator["outputs"]):
            first.setdefault(number, step)
            last.setdefault(number, step)
        for number in map(int, operator["inputs"]):
            last[number] = step
    last |= {int(n): len(operators) - 1 for n in graph["outputs"]}
    steps = [0] * len(operators)
    for number, start in first.items():
        size = _size(model, graph["tensors"][number]) if number >= 0 else 0
        for step in range(start, last.get(number, start) + 1):
            steps[step] += size
    return steps


def _size(model: Record, tensor: Record) -> int:
    if len(data_of(model, tensor)):
        return 0
    bits = TensorType(tensor["type"]).bits
    size = -(-bits * math.prod(int(n) for n in tensor["shape"] if n > 0) // 8)
    return int(size + -size % _ALIGNMENT)
