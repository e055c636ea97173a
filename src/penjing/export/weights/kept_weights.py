"""What of a trained weight a file holds: looked up in the file, and said.

Each weight in which training fixed something is found among the file's constants by
its values, whatever the order of axes, and compared with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from penjing.export.weights.fixed_weights import (
    LOWEST_INTEGER,
    FixedWeight,
    by_channel,
    channel_factors,
)
from penjing.export.weights.weight_uses import WeightUse, find_uses
from penjing.numerics.grid_detection import find_scale
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.stored_tensors import numbers_of
from penjing.tflite.tensors import TensorType

_SAME_WEIGHT = 0.4  # of its norm; int4 rounds by a tenth, others differ by all of it
_EXACT = 2.0**-18  # relative; two float32 roundings, and those of a folded factor
_INTEGERS = (TensorType.INT4, TensorType.INT8, TensorType.INT16)
_SAMPLE = 4096  # elements, or a little more, that show most weights to be others
_NAMED = 6  # weights in one message
_ONE_SCALE = (Operator.GATHER, Operator.BATCH_MATMUL)

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoredWeight:
    """A constant of a file: its numbers, what they stand for, and its readers.

    `integers` is None where the file holds floats. `axes` may count its channels.
    """

    values: Array
    integers: Array | None
    kind: int
    axes: tuple[int, ...]
    uses: Sequence[WeightUse]


def lost_values(model: Record, fixed: Sequence[FixedWeight]) -> list[str]:
    """Say of each weight what training fixed in it and the file does not hold.

    Nothing is said of those that the file holds. One sentence a weight.
    """
    sizes = {weight.values.size for weight in fixed}
    stored = [s for s in _stored_weights(model) if s.values.size in sizes]
    found = (_lost(weight, stored) for weight in fixed)
    return [sentence for sentence in found if sentence]


def told(sentences: Sequence[str]) -> str:
    """The first of several sentences, and how many more there are."""
    more = len(sentences) - _NAMED
    end = [f"and {more} more"] if more > 0 else []
    return "; ".join([*sentences[:_NAMED], *end])


def _stored_weights(model: Record) -> Iterator[StoredWeight]:
    for graph in model["subgraphs"]:
        uses = find_uses(model, graph)
        for number, tensor in enumerate(graph["tensors"]):
            kind, values = tensor["type"], numbers_of(model, tensor)
            if values is None or values.ndim < 2 or tensor["sparsity"]:
                continue
            readers = uses.get(number, [])
            if kind in (TensorType.FLOAT32, TensorType.FLOAT16):
                real, integers = values.astype("float32"), None
            elif kind in _INTEGERS and _has_scales(tensor):
                real, integers = _real(tensor, values)
            else:
                continue
            yield StoredWeight(
                values=real,
                integers=integers,
                kind=kind,
                axes=_axes(tensor, readers),
                uses=readers,
            )


def _real(tensor: Record, values: Array) -> tuple[Array, Array]:
    """What integers stand for, and the integers with 0 for zero."""
    quantization = tensor["quantization"]
    scales, points = quantization["scale"], quantization["zero_point"]
    axis = int(quantization["quantized_dimension"])
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    if len(scales) == 1:
        shape = [1] * values.ndim
    integers = values.astype("int64") - (points.reshape(shape) if len(points) else 0)
    return (integers * scales.reshape(shape)).astype("float32"), integers


def _has_scales(tensor: Record) -> bool:
    return bool(tensor["quantization"] and len(tensor["quantization"]["scale"]))


def _axes(tensor: Record, readers: Sequence[WeightUse]) -> tuple[int, ...]:
    rank = len(tensor["shape"])
    if _has_scales(tensor) and len(tensor["quantization"]["scale"]) > 1:
        return (int(tensor["quantization"]["quantized_dimension"]),)
    known = {use.channel_axis(rank) for use in readers if use.takes_weights}
    return tuple(sorted(known)) or (0, rank - 1)


def _lost(weight: FixedWeight, stored: Sequence[StoredWeight]) -> str:
    if not weight.values.any():
        return ""
    copies = [pair for item in stored for pair in _same(weight, item)]
    if not copies:
        return (
            f"`{weight.path}` is in the file in another form, so whether it has "
            f"{_fixed(weight)} there could not be seen"
        )
    found = (_difference(weight, item, values) for item, values in copies)
    return next((sentence for sentence in found if sentence), "")


def _fixed(weight: FixedWeight) -> str:
    if weight.keeps_integers:
        return f"its {weight.num_values} values"
    return f"its {int((weight.values == 0).sum())} zeros"


def _same(
    weight: FixedWeight, item: StoredWeight
) -> Iterator[tuple[StoredWeight, Array]]:
    """The weight in the order of a constant, where the two are one."""
    best, least = None, _SAME_WEIGHT
    for values in weight.laid_out(item.values.shape):
        for axis in item.axes:
            distance = _distance(item.values, values, axis)
            if distance < least:
                best, least = values, distance
    if best is not None:
        yield item, best


def _distance(stored: Array, values: Array, axis: int) -> float:
    """How far constants are from a weight times a factor for each channel."""
    rows, base = by_channel(stored, axis), by_channel(values, axis)
    if rows.size > 2 * _SAMPLE:
        step = max(1, rows.size // _SAMPLE)
        some = (slice(None, None, min(step, len(rows) // 2 or 1)), slice(_SAMPLE // 4))
        if _row_distance(rows[some], base[some]) > 2 * _SAME_WEIGHT:
            return 1.0  # without a look at all of a large one
    return _row_distance(rows, base)


def _row_distance(stored: Array, values: Array) -> float:
    rows, base = stored.astype("float64"), values.astype("float64")
    squares = np.square(base).sum(axis=1)
    factors = (rows * base).sum(axis=1) / np.where(squares > 0, squares, 1)
    norm = np.linalg.norm(rows)
    return float(np.linalg.norm(rows - base * factors[:, None]) / (norm or 1))


def _difference(weight: FixedWeight, item: StoredWeight, values: Array) -> str:
    zeros = int(((values == 0) & (item.values != 0)).sum())
    if zeros:
        return f"`{weight.path}`: {zeros} of its zeros are none in the file"
    if not weight.keeps_integers or item.integers is None:
        return ""
    if any(_is_exact(item, values, axis) for axis in item.axes):
        return ""
    count = int(np.unique(np.abs(item.integers)).size)
    trained = int(np.unique(np.abs(values)).size)
    shares = weight.is_shared and not weight.is_on_grid
    if shares and (count == trained or (count < trained and _is_wide(item))):
        return ""
    if weight.is_on_grid and item.kind == TensorType.INT16 and count <= trained:
        return ""
    what = f"{trained} magnitudes became {count}"
    if weight.is_on_grid and find_scale(weight.values, LOWEST_INTEGER) is None:
        what = "its integers, with a scale for each channel, became others"
    return f"`{weight.path}`: {what} ({_reason(weight, item)})"


def _is_exact(item: StoredWeight, values: Array, axis: int) -> bool:
    return channel_factors(item.values, values, axis, _EXACT) is not None


def _is_wide(item: StoredWeight) -> bool:
    return item.kind != TensorType.INT4


def _reason(weight: FixedWeight, item: StoredWeight) -> str:
    one_scale = {use.code for use in item.uses} & {*_ONE_SCALE}
    if item.kind == TensorType.INT4:
        return "int4 has 15 levels, -7 to 7"
    if find_scale(weight.values) is None and one_scale:
        name = Operator(min(one_scale)).name
        return (
            f"{name} takes one scale for all: train it on a Grid with "
            'granularity="per_tensor"'
        )
    if find_scale(weight.values, LOWEST_INTEGER) and not find_scale(weight.values):
        return "its grid goes down to -128, and int8 weights of LiteRT to -127"
    return "the operator that reads it could be given no other scale"
