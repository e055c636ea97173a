"""Parts of one output that differ in size, judged each by itself.

One int8 tensor has one scale. Where a model joins boxes in pixels with scores from 0
to 1 in one output, the scale is that of the boxes, and the spread of the whole says
nothing of the scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from penjing.tflite.operators import SAME_VALUES, Call, Operator, calls
from penjing.tflite.records import Record
from penjing.tflite.tensors import tensor_name

Array = np.ndarray[Any, Any]

MOST_COLUMNS = 32  # of an output that is not joined, and judged column by column
# Of the size of the whole: larger columns are coarse at worst, not lost.
_SMALL_COLUMN = 0.02
# Of the size of a part: a spread below that is measured as if it were that large.
# Columns that hardly vary are common, joined parts that do not are no outputs.
_LEAST_SPREAD, _LEAST_SPREAD_OF_COLUMN = 0.05, 0.5
_NOTHING = 1e-6  # A part this small beside the whole output is noise.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A stretch of an output along an axis, which is counted from the end.

    `name` is the tensor that gives it, empty where it is a column of one tensor.
    """

    axis: int
    start: int
    stop: int
    name: str = ""

    def of(self, values: Array) -> Array:
        """The values of the part."""
        place = [slice(None)] * values.ndim
        place[self.axis] = slice(self.start, self.stop)
        return values[tuple(place)]

    def __str__(self) -> str:
        """Where it lies, for messages.

        Example:
            >>> str(Part(axis=-1, start=4, stop=6, name="scores"))
            "the part in columns 4 to 5 (from 'scores')"
        """
        last = self.stop - 1
        several = last > self.start
        numbers = f"{self.start} to {last}" if several else f"{last}"
        where = "columns" if several else "column"
        if self.axis != -1:
            where = f"axis {self.axis},"
        source = f" (from {self.name!r})" if self.name else ""
        return f"the part in {where} {numbers}{source}"


def joined_parts(model: Record) -> list[list[Part]]:
    """For each output of a file the parts that it was joined of; none where it is one.

    Sizes that the file leaves free hide the parts.
    """
    graph = model["subgraphs"][0]
    producers = {n: call for call in calls(model, graph) for n in call.outputs}
    return [list(_parts(graph, producers, int(n))) for n in graph["outputs"]]


def columns_of(values: Array) -> list[Part]:
    """The columns of an output that is not joined, where they are far smaller than it.

    Values from 0 to 1, as probabilities are, have a grid that fits all of them.
    """
    if values.ndim < 2 or not 1 < values.shape[-1] <= MOST_COLUMNS:
        return []
    if values.min() >= 0 and values.max() <= 1:
        return []
    most = 2 * _SMALL_COLUMN * _size(values)  # rounding may have made them larger
    parts = [Part(axis=-1, start=i, stop=i + 1) for i in range(values.shape[-1])]
    return [part for part in parts if _size(part.of(values)) <= most]


def part_errors(
    actual: Array, expected: Array, parts: Sequence[Part]
) -> list[tuple[float, Part]]:
    """How far each part is off, in units of its own spread; the worst comes first.

    Parts that hold next to nothing beside the others are left out, and columns of one
    tensor that are not much smaller than the whole.
    """
    whole = _size(expected)
    found = []
    for part in parts:
        wanted = part.of(expected).astype("float64")
        size = _size(wanted) if wanted.size else 0.0
        most = np.inf if part.name else _SMALL_COLUMN * whole
        if _NOTHING * whole < size <= most:
            difference = _size(part.of(actual).astype("float64") - wanted)
            least = _LEAST_SPREAD if part.name else _LEAST_SPREAD_OF_COLUMN
            spread = max(float(wanted.std()), least * size)
            found.append((difference / spread, part))
    return sorted(found, key=lambda pair: -pair[0])


def _parts(
    graph: Record, producers: dict[int, Call], output: int, axis: int | None = None
) -> Iterator[Part]:
    """The parts of a tensor; those along one axis alone if it is given."""
    call, only_last = _joining(graph, producers, output)
    if call is None:
        return
    joined = _sizes(graph, call.output)
    along = int(call.option("axis")) % len(joined) - len(joined)
    if axis not in (None, along) or (only_last and along != -1):
        return
    start = 0
    for number in call.inputs:
        size = 1 if call.code == Operator.PACK else _sizes(graph, number)[along]
        if size < 0:
            return
        inner = list(_parts(graph, producers, number, along))
        yield from (
            dataclasses.replace(part, start=start + part.start, stop=start + part.stop)
            for part in inner
        )
        if not inner:
            name = tensor_name(graph["tensors"][number])
            yield Part(axis=along, start=start, stop=start + size, name=name)
        start += size


def _joining(
    graph: Record, producers: dict[int, Call], number: int
) -> tuple[Call | None, bool]:
    """What joins a tensor of others, and whether its last axis alone is still there."""
    only_last = False
    call = producers.get(number)
    while call is not None and call.code not in (
        Operator.CONCATENATION,
        Operator.PACK,
    ):
        reshaped = call.code == Operator.RESHAPE and _keeps_columns(graph, call)
        if not reshaped and call.code not in SAME_VALUES:
            return None, False
        only_last = only_last or reshaped
        call = producers.get(call.inputs[0])
    return call, only_last


def _keeps_columns(graph: Record, call: Call) -> bool:
    before, after = _sizes(graph, call.inputs[0]), _sizes(graph, call.output)
    return bool(before and after and before[-1] == after[-1] > 0)


def _sizes(graph: Record, number: int) -> list[int]:
    """Sizes of the axes of a tensor, -1 where one is free."""
    tensor = graph["tensors"][number]
    signature = tensor["shape_signature"]
    sizes = signature if len(signature) else tensor["shape"]
    return [int(size) for size in sizes]


def _size(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype="float64"))))
