"""Tensors of a file that stand for the same values as those of its float32 twin.

The converter keeps the names of tensors when it makes integers of them. Where they are
stripped, or another converter wrote the file, the operators are brought in line: both
files compute the same in the same order, but for QUANTIZE and DEQUANTIZE.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Sequence

from penjing.tflite.operators import SAME_VALUES, Call, Operator, calls
from penjing.tflite.records import Record
from penjing.tflite.tensors import FLOATS, data_of, tensor_name

_NAMED = 0.5  # of the operators: with fewer, equal names are chance


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TensorPair:
    """A tensor of a file and that of its twin, by their numbers in the main graphs.

    `code` is of the operator that gives it, or reads it where it is a constant; -1 for
    an input. `sources` are the tensors that it is computed from, by their numbers in
    the file, behind QUANTIZE and DEQUANTIZE.
    """

    file: int
    twin: int
    code: int
    is_constant: bool
    sources: tuple[int, ...] = ()


class SeenGraph:
    """The main graph of a file, with QUANTIZE and DEQUANTIZE looked through."""

    def __init__(self, model: Record) -> None:
        self.model = model
        self.graph = model["subgraphs"][0]
        self.tensors: Sequence[Record] = self.graph["tensors"]
        self.inputs = [int(n) for n in self.graph["inputs"]]
        self.outputs = [int(n) for n in self.graph["outputs"]]
        self.calls: list[Call] = []
        self._carried: dict[int, int] = {}
        for call in calls(model, self.graph):
            if call.code in SAME_VALUES and call.inputs and call.outputs:
                self._carried[call.output] = call.inputs[0]
            elif call.outputs:
                self.calls.append(call)
        self.makers = {n: call for call in self.calls for n in call.outputs}

    def root(self, number: int) -> int:
        """The tensor that a tensor's values were computed as, before it was rounded."""
        seen: set[int] = set()
        while number in self._carried and number not in seen:  # a damaged file's circle
            seen.add(number)
            number = self._carried[number]
        return number

    def name(self, number: int) -> str:
        """What the file calls a tensor."""
        return tensor_name(self.tensors[number])

    def is_constant(self, number: int) -> bool:
        """Whether the file stores a tensor's values."""
        return number >= 0 and len(data_of(self.model, self.tensors[number])) > 0

    def holding(self) -> Iterator[int]:
        """Tensors that hold values of their own: what DEQUANTIZE gives does not."""
        for call in calls(self.model, self.graph):
            if call.code != Operator.DEQUANTIZE:
                yield from call.outputs


def tensor_pairs(file: SeenGraph, twin: SeenGraph) -> list[TensorPair]:
    """Pair the tensors of a file with those of its twin, in the order of the file.

    Constants come before the tensor that is computed from them. A file with other
    numbers of inputs or outputs than its twin has no pairs.
    """
    sides = (file.inputs, twin.inputs), (file.outputs, twin.outputs)
    if any(len(mine) != len(other) for mine, other in sides):
        return []
    same = _same_calls(file, twin)
    partners = dict(zip(file.inputs, twin.inputs, strict=True))
    for mine, other in same:
        partners.update(zip(mine.outputs, other.outputs, strict=False))
    found: list[TensorPair] = []
    of_call = {id(mine): other for mine, other in same}
    seen: set[int] = set()
    for number in file.holding():
        root = file.root(number)
        maker = file.makers.get(root)
        if maker is not None and id(maker) in of_call and id(maker) not in seen:
            seen.add(id(maker))
            found += _constants(file, twin, maker, of_call[id(maker)])
        if root in partners and not file.is_constant(root):
            found.append(_pair(file, number, partners[root], maker))
    return found


def _pair(file: SeenGraph, number: int, twin: int, maker: Call | None) -> TensorPair:
    given = maker.inputs if maker is not None else ()
    sources = [file.root(n) for n in given if n >= 0 and not file.is_constant(n)]
    return TensorPair(
        file=number,
        twin=twin,
        code=-1 if maker is None else maker.code,
        is_constant=False,
        sources=tuple(sources),
    )


def _constants(
    file: SeenGraph, twin: SeenGraph, mine: Call, other: Call
) -> Iterator[TensorPair]:
    """Constants of floats that two operators read at the same place."""
    if mine.code != other.code or len(mine.inputs) != len(other.inputs):
        return
    for ours, theirs in zip(mine.inputs, other.inputs, strict=True):
        number = file.root(ours)
        if not (file.is_constant(number) and twin.is_constant(theirs)):
            continue
        tensors = file.tensors[number], twin.tensors[theirs]
        alike = list(tensors[0]["shape"]) == list(tensors[1]["shape"])
        if alike and tensors[1]["type"] in FLOATS:
            yield TensorPair(file=number, twin=theirs, code=mine.code, is_constant=True)


def _same_calls(file: SeenGraph, twin: SeenGraph) -> list[tuple[Call, Call]]:
    """Operators of both that compute the same: by name, else by their order."""
    by_name = {twin.name(call.output): call for call in twin.calls}
    pairs = [
        (call, by_name[file.name(call.output)])
        for call in file.calls
        if file.name(call.output) in by_name
    ]
    if len(by_name) < len(twin.calls) or len(pairs) < _NAMED * len(file.calls):
        pairs = list(_in_line(file, twin))
    known = {id(call) for call, _ in pairs}
    for mine, other in zip(file.outputs, twin.outputs, strict=True):
        both = file.makers.get(file.root(mine)), twin.makers.get(twin.root(other))
        if both[0] and both[1] and id(both[0]) not in known:
            pairs.append((both[0], both[1]))
    return pairs


def _in_line(file: SeenGraph, twin: SeenGraph) -> Iterator[tuple[Call, Call]]:
    """Operators that come in the same order, of the same kind and shape."""
    mine, others = (
        [(call.code, _shape(graph, call.output)) for call in graph.calls]
        for graph in (file, twin)
    )
    matcher = difflib.SequenceMatcher(None, mine, others, autojunk=False)
    for start, other, length in matcher.get_matching_blocks():
        yield from zip(
            file.calls[start : start + length],
            twin.calls[other : other + length],
            strict=True,
        )


def _shape(graph: SeenGraph, number: int) -> tuple[int, ...]:
    """The shape of a tensor without the batch, which may be free in one of two."""
    return tuple(int(size) for size in graph.tensors[number]["shape"])[1:]
