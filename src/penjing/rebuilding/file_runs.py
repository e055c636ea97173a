"""What a file gives for made-up inputs, all of its tensors kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penjing.files import limit
from penjing.rebuilding.source_graph import SourceGraph
from penjing.runtime.sample_inputs import random_inputs, spec_of
from penjing.runtime.tensor_values import FileExaminer, TensorValues
from penjing.tflite.operators import Operator

_MOST = 2**28  # bytes of one tensor
_MOST_TOGETHER = 2**30  # of all tensors of the runs of one kind
_SEEDS = 2
_PARTS = 3  # whose mean has a deviation of a sixth of the range
Array = np.ndarray[Any, Any]


def _small(values: Array) -> Array:
    return np.abs(values) * 0.1 + 0.05


# Logarithms and roots of random inputs are no numbers; these are tried then.
_KINDS: tuple[Callable[[Array], Array], ...] = (np.asarray, np.abs, _small)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunOfFile:
    """What a file gave for inputs.

    Attributes:
        stored: Number of a tensor -> its values as the file stores them.
    """

    graph: SourceGraph
    stored: dict[int, Array]

    @property
    def inputs(self) -> list[Array]:
        """The inputs as real numbers."""
        return [self.real(number) for number in self.graph.inputs]

    def real(self, number: int) -> Array:
        """The values of a tensor as real numbers."""
        return self.graph.real(number, self.stored[number])


def run_file(content: bytes, graph: SourceGraph, where: str) -> list[RunOfFile]:
    """Run a file on random inputs, all of its tensors kept.

    Where these lead to what is no finite number, positive inputs are tried too, two
    runs for each kind. The graph gets the shapes of the run, in place: those that a
    file stores may be wrong.
    """
    wanted = sorted({n for call in graph.calls for n in call.outputs if n >= 0})
    drawn = [_drawn(graph, seed) for seed in range(_SEEDS)]
    runs: list[RunOfFile] = []
    with FileExaminer(len(content)) as examiner:
        for kind in _KINDS:
            rounds = [[_changed(array, kind) for array in arrays] for arrays in drawn]
            found = examiner.run(
                content,
                rounds,
                where,
                tensors=[len(g["tensors"]) for g in graph.model["subgraphs"]],
                wanted=[(0, number) for number in wanted],
                most=_MOST,
                together=limit(_MOST_TOGETHER),
            )
            _set_shapes(graph, found[0])
            pairs = zip(rounds, found, strict=True)
            these = [_run(graph, arrays, wanted, values) for arrays, values in pairs]
            runs += these
            if all(map(_is_finite, these)):
                break
    return runs


def outputs_for(
    content: bytes, graph: SourceGraph, runs: Sequence[RunOfFile], where: str
) -> list[list[Array]]:
    """What another file gives for the inputs of runs, as real numbers."""
    rounds = [[run.stored[n] for n in run.graph.inputs] for run in runs]
    with FileExaminer(len(content)) as examiner:
        found = examiner.run(content, rounds, where)
    return [
        [graph.real(n, a) for n, a in zip(graph.outputs, one.outputs, strict=True)]
        for one in found
    ]


def joined(runs: Sequence[RunOfFile]) -> list[RunOfFile]:
    """The runs of each kind as one of a larger batch."""
    groups = (runs[n : n + _SEEDS] for n in range(0, len(runs), _SEEDS))
    return [
        RunOfFile(
            graph=group[0].graph,
            stored={
                number: np.concatenate([run.stored[number] for run in group])
                for number in group[0].stored
            },
        )
        for group in groups
    ]


def _drawn(graph: SourceGraph, seed: int) -> list[Array]:
    """Random inputs; those that become integers at once, about the range's middle."""
    specs = [spec_of(graph.tensors[number]) for number in graph.inputs]
    generator = np.random.default_rng(seed)
    arrays = []
    for number, array in zip(graph.inputs, random_inputs(specs, seed), strict=True):
        ends = _range_of_readers(graph, number) if array.dtype.kind == "f" else None
        if ends is not None:
            # As far from the middle as real inputs: more would leave later ranges.
            parts = generator.uniform(*ends, size=(_PARTS, *array.shape))
            array = parts.mean(0).astype(array.dtype)
        arrays.append(array)
    return arrays


def _range_of_readers(graph: SourceGraph, number: int) -> tuple[float, float] | None:
    readers = [call for call in graph.calls if number in call.inputs]
    if not readers or any(call.code != Operator.QUANTIZE for call in readers):
        return None
    return graph.ends(readers[0].output)


def _changed(array: Array, kind: Callable[[Array], Array]) -> Array:
    return kind(array).astype(array.dtype) if array.dtype.kind == "f" else array


def _set_shapes(graph: SourceGraph, found: TensorValues) -> None:
    for tensor, shape in zip(graph.tensors, found.shapes[0], strict=True):
        if shape is not None:
            tensor["shape"] = np.array(shape, "<i4")


def _run(
    graph: SourceGraph, arrays: list[Array], wanted: list[int], found: TensorValues
) -> RunOfFile:
    stored = dict(zip(graph.inputs, arrays, strict=True))
    kept = zip(wanted, found.values, strict=True)
    stored.update({n: np.asarray(value) for n, value in kept if value is not None})
    stored.update(zip(graph.outputs, found.outputs, strict=False))
    return RunOfFile(graph=graph, stored=stored)


def _is_finite(run: RunOfFile) -> bool:
    floats = (array for array in run.stored.values() if array.dtype.kind == "f")
    return all(np.isfinite(array).all() for array in floats)
