"""What depends on constants and shapes alone, as constants."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from penjing.tflite.cleaning import drop_unused
from penjing.tflite.graph_edits import drop_unread
from penjing.tflite.operators import Operator, operator_code, operators
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, data_of, set_values

Place = tuple[int, int]  # graph and number of a tensor
Array = np.ndarray[Any, Any]

# What is not the same in each run, or keeps something.
IMPURE = operators(
    """
    CUSTOM WHILE IF CALL CALL_ONCE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE DELEGATE
    RANDOM_UNIFORM RANDOM_STANDARD_NORMAL MULTINOMIAL STABLEHLO_RNG_BIT_GENERATOR
    HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE HASHTABLE_LOOKUP
    """
)
# What depends on the shape of its input alone.
_OF_SHAPES = operators("SHAPE RANK ZEROS_LIKE")
_SMALL = 1024  # bytes; larger results must be no larger than what they are made of


def foldable_tensors(model: Record, graphs: Collection[int]) -> list[Place]:
    """Tensors that depend on constants and shapes alone, in some graphs of a file."""
    return [
        (g, int(number))
        for g, graph in enumerate(model["subgraphs"])
        if g in graphs
        for operator in _foldable(model, graph)
        for number in operator["outputs"]
    ]


def _foldable(model: Record, graph: Record) -> Iterator[Record]:
    known = {n for n, t in enumerate(graph["tensors"]) if len(data_of(model, t))}
    for operator in graph["operators"]:
        code = operator_code(model, operator)
        inputs = {int(n) for n in operator["inputs"] if n >= 0}
        depends = code not in _OF_SHAPES and not (inputs and inputs <= known)
        outputs = [graph["tensors"][n] for n in operator["outputs"] if n >= 0]
        if not depends and code not in IMPURE and all(map(_is_number, outputs)):
            known.update(map(int, operator["outputs"]))
            yield operator


def _is_number(tensor: Record) -> bool:
    return TensorType(tensor["type"]).bits >= 8 and not tensor["is_variable"]


def fold_constants(model: Record, values: Mapping[Place, Array]) -> None:
    """Store values of tensors as constants, and leave out what computes them, in place.

    Larger ones are left to their operators, where they are more bytes than what these
    read; so are outputs of a graph. Those of sparse tensors are not.
    """
    for g, graph in enumerate(model["subgraphs"]):
        ends = {int(n) for n in graph["outputs"]}
        kept = []
        for operator in graph["operators"]:
            found = [values.get((g, int(number))) for number in operator["outputs"]]
            if ends.intersection(map(int, operator["outputs"])) or not _pays(
                model, graph, operator, found
            ):
                kept.append(operator)
                continue
            for number in map(int, operator["outputs"]):
                set_values(model, graph["tensors"][number], values[g, number])
        graph["operators"] = kept
        drop_unread(graph, functools.partial(_is_pure, model))
    drop_unused(model)


def _is_pure(model: Record, operator: Record) -> bool:
    return operator_code(model, operator) not in IMPURE


def _pays(
    model: Record, graph: Record, operator: Record, values: Sequence[Array | None]
) -> bool:
    if any(value is None for value in values):
        return False
    if operator_code(model, operator) == Operator.DENSIFY:
        return True
    size = sum(value.nbytes for value in values if value is not None)
    inputs = [graph["tensors"][n] for n in operator["inputs"] if n >= 0]
    read = sum(len(data_of(model, tensor)) for tensor in inputs)
    return size <= max(read, _SMALL)
