"""Constants that an operator DECODE can stand in for."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import defaultdict
from typing import Any

import numpy as np

from penjing.tflite.decode_records import Layout, layout_of
from penjing.tflite.operators import WEIGHTED, Operator, operator_code, operator_name
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    all_tensors,
    data_of,
    is_plain,
    tensor_name,
)

Array = np.ndarray[Any, Any]
Place = tuple[int, int]

# Inputs that kernels read while they run, and not before. Others, such as the weights
# of recurrent operators, are summed up while the arena is planned, when nothing is
# decoded yet.
_READ_LATE: dict[int, frozenset[int]] = {
    **{code: frozenset({places.weights}) for code, places in WEIGHTED.items()},
    Operator.GATHER: frozenset({0}),
    Operator.BATCH_MATMUL: frozenset({0, 1}),
    Operator.ADD: frozenset({0, 1}),
    Operator.SUB: frozenset({0, 1}),
    Operator.MUL: frozenset({0, 1}),
}
_LEAST_VALUES = 64  # A header alone takes 16 bytes.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """A constant that DECODE can stand in for, wherever it is read.

    Attributes:
        name: What the file calls it.
        reader: Name of the operator that reads it first.
        type: Its type, in the schema's name.
        places: Its tensors, each by the numbers of its graph and of itself.
        layout: How its numbers lie.
        values: The numbers, flat, floats as the bits that they are.
    """

    name: str
    reader: str
    type: str
    places: tuple[Place, ...]
    layout: Layout
    values: Array

    @functools.cached_property
    def counts(self) -> dict[int, int]:
        """How often each number occurs."""
        levels, found = np.unique(self.values, return_counts=True)
        return dict(zip(levels.tolist(), found.tolist(), strict=True))

    @property
    def is_zero(self) -> Array:
        """Which numbers stand for zero: those at the zero point of their channel."""
        zeros = self.layout.zeros
        if len(zeros) > 1:
            zeros = zeros[self.layout.channel_of()]
        return np.asarray(self.values == zeros.astype(self.layout.stored_as))

    @property
    def size(self) -> int:
        """Its bytes, decoded."""
        return int(self.values.nbytes)


def packable_constants(model: Record) -> list[Constant]:
    """Constants that DECODE can stand in for, in the order of their first use.

    Each content of a buffer comes once: with others that still read it plain, encoding
    it would win nothing.
    """
    places, refused = _readers(model)
    found = []
    for buffer, read in places.items():
        if buffer not in refused:
            constant = _constant(model, read)
            if constant is not None:
                found.append(constant)
    return found


def why_none(model: Record) -> str:
    """Why a model has no packable constant, and what to do about it."""
    stored = [t for t in all_tensors(model) if len(data_of(model, t)) > 1]
    if not stored:
        return "It has no weights, so there is nothing to pack."
    counts = [math.prod(int(size) for size in t["shape"]) for t in stored]
    large = [t for t, n in zip(stored, counts, strict=True) if n >= _LEAST_VALUES]
    if not large:
        return (
            f"Its largest has {max(counts)} numbers, so there is nothing to gain: what "
            "says how to decode takes more."
        )
    if all(layout_of(t) is None or not is_plain(model, t) for t in large):
        types = sorted({TensorType(t["type"]).dtype for t in large})
        return f"Their types are {', '.join(types)}: export with quantization='int8'."
    numbers = {t["buffer"] for t in large}
    places, _ = _readers(model)
    names = {name for b in numbers for _, name in places.get(b, [])}
    return (
        f"Those that it has are read by {', '.join(sorted(names)) or 'nothing'}, "
        "before anything is decoded, or are given as they are: they stay plain."
    )


def _readers(model: Record) -> tuple[dict[int, list[tuple[Place, str]]], set[int]]:
    """For each buffer the tensors that are read, and buffers that must stay."""
    places: dict[int, list[tuple[Place, str]]] = defaultdict(list)
    refused: set[int] = {0}
    for g, graph in enumerate(model["subgraphs"]):
        ends = (*graph["inputs"], *graph["outputs"])
        refused |= {graph["tensors"][n]["buffer"] for n in ends if n >= 0}
        for operator in graph["operators"]:
            late = _READ_LATE.get(operator_code(model, operator), frozenset())
            for place, number in enumerate(map(int, operator["inputs"])):
                if number < 0:
                    continue
                buffer = graph["tensors"][number]["buffer"]
                if place not in late:
                    refused.add(buffer)
                places[buffer].append(((g, number), operator_name(model, operator)))
    return places, refused


def _constant(model: Record, read: list[tuple[Place, str]]) -> Constant | None:
    numbers = list(dict.fromkeys(place for place, _ in read))
    tensors = [model["subgraphs"][g]["tensors"][t] for g, t in numbers]
    first = tensors[0]
    layout = layout_of(first)
    alike = all(_looks_like(first, tensor) for tensor in tensors)
    if layout is None or not alike or not is_plain(model, first):
        return None
    if layout.count < _LEAST_VALUES:
        return None
    data = np.ascontiguousarray(data_of(model, first))
    return Constant(
        name=tensor_name(first),
        reader=read[0][1],
        type=TensorType(first["type"]).dtype,
        places=tuple(numbers),
        layout=layout,
        values=data.view(layout.stored_as),
    )


def _looks_like(first: Record, second: Record) -> bool:
    """Whether decoders see the same layout in two tensors."""
    scales = [
        t["quantization"] or Record("QuantizationParameters") for t in (first, second)
    ]
    return bool(
        first["type"] == second["type"]
        and np.array_equal(first["shape"], second["shape"])
        and len(scales[0]["scale"]) == len(scales[1]["scale"])
        and scales[0]["quantized_dimension"] == scales[1]["quantized_dimension"]
        and np.array_equal(scales[0]["zero_point"], scales[1]["zero_point"])
    )
