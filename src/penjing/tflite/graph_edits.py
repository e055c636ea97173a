"""Small changes to a graph that many steps make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penjing.tflite.operators import Operator, code_index
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, set_values


def drop_unread(graph: Record, is_pure: Callable[[Record], bool]) -> None:
    """Leave out operators that only compute what nobody reads, in place.

    `is_pure` says of an operator whether it does nothing else.
    """
    read = {int(n) for n in graph["outputs"]}
    kept = []
    for operator in reversed(graph["operators"]):
        if read.intersection(map(int, operator["outputs"])) or not is_pure(operator):
            read.update(map(int, operator["inputs"]))
            kept.append(operator)
    graph["operators"] = kept[::-1]


def add_tensor(graph: Record, tensor: Record) -> int:
    """Add a tensor to a graph; its number."""
    graph["tensors"] = [*graph["tensors"], tensor]
    return len(graph["tensors"]) - 1


def add_sizes(model: Record, graph: Record, sizes: Any) -> int:
    """Add a constant vector of sizes, as RESHAPE reads it; its number."""
    values = np.asarray(sizes, "<i4")
    tensor = Record(
        "Tensor", shape=np.array(values.shape, "<i4"), type=TensorType.INT32
    )
    set_values(model, tensor, values)
    return add_tensor(graph, tensor)


def make_operator(
    model: Record,
    code: Operator,
    inputs: Sequence[int],
    output: int,
    *,
    options: Record | None = None,
    version: int = 1,
) -> Record:
    """An operator from tensors to one tensor, to be put among those of a graph.

    Its code is added to the model if it is missing there.
    """
    return Record(
        "Operator",
        opcode_index=code_index(model, code, version),
        inputs=np.array(inputs, "<i4"),
        outputs=np.array([output], "<i4"),
        builtin_options=options,
    )


def insert_after(graph: Record, operator: Record, new: Record) -> None:
    """Let a new operator run right after one that is there."""
    operators = list(graph["operators"])
    place = next(i for i, found in enumerate(operators) if found is operator)
    graph["operators"] = [*operators[: place + 1], new, *operators[place + 1 :]]


def set_input(operator: Record, place: int, tensor: int) -> None:
    """Let an operator read another tensor at one place."""
    inputs = operator["inputs"].copy()
    inputs[place] = tensor
    operator["inputs"] = inputs


def own_input(graph: Record, operator: Record, place: int) -> Record:
    """The tensor that an operator reads at one place, a copy where others read it."""
    number = int(operator["inputs"][place])
    readers = [*graph["outputs"]]
    readers += [n for other in graph["operators"] for n in other["inputs"]]
    if readers.count(number) > 1:
        number = add_tensor(graph, graph["tensors"][number].copy())
        set_input(operator, place, number)
    tensor: Record = graph["tensors"][number]
    return tensor


def read_instead(graph: Record, old: int, new: int) -> None:
    """Let everything in a graph that reads one tensor read another one."""
    for operator in graph["operators"]:
        inputs = operator["inputs"]
        operator["inputs"] = np.where(inputs == old, new, inputs).astype("<i4")
