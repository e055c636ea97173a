"""Operators that read constants alone, as constants of what LiteRT gave."""

from __future__ import annotations

from collections.abc import Sequence

from penjing.rebuilding.file_runs import Array, RunOfFile
from penjing.rebuilding.source_graph import SourceGraph
from penjing.specializing.constant_folding import IMPURE
from penjing.tflite.operators import Call
from penjing.tflite.tensors import set_values


def fold_known(graph: SourceGraph, runs: Sequence[RunOfFile]) -> SourceGraph:
    """The graph without operators whose inputs are constants; numbers stay.

    Their outputs become constants, in place, where these are the same in each run.
    """
    known: set[int] = set()
    for call in graph.calls:
        given = [n for n in call.inputs if n >= 0]
        is_known = given and all(n in known or graph.is_constant(n) for n in given)
        values = _values(call, graph, runs) if is_known else None
        if values is None or call.code in IMPURE:
            continue
        for number, value in values.items():
            set_values(graph.model, graph.tensors[number], value)
        known.update(values)
    (main, *_) = graph.model["subgraphs"]
    if known:
        main["operators"] = [
            op for op in main["operators"] if not known & set(map(int, op["outputs"]))
        ]
    return SourceGraph(model=graph.model)


def _values(
    call: Call, graph: SourceGraph, runs: Sequence[RunOfFile]
) -> dict[int, Array] | None:
    """What an operator gave in each run, by its outputs; None where it differs."""
    found = {}
    for number in call.outputs:
        first, *others = (run.stored.get(number) for run in runs)
        if first is None or 8 * first.dtype.itemsize != graph.kind(number).bits:
            return None
        same = all(
            other is not None and other.tobytes() == first.tobytes() for other in others
        )
        if not same or graph.tensors[number]["is_variable"]:
            return None
        found[number] = first
    return found or None
