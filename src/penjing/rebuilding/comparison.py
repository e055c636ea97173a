"""Whether a rebuilt model computes what the file does, operator by operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from penjing.errors import ExportError
from penjing.rebuilding.graph_building import RebuiltModel, RebuiltOperator
from penjing.rebuilding.source_graph import SourceGraph
from penjing.runtime.sample_inputs import random_inputs, spec_of
from penjing.runtime.tensor_values import FileExaminer, TensorValues

FLOAT_TOLERANCE = 1e-5
"""Of the largest magnitude of a tensor: float32 sums in another order."""
_STEPS = 1.5
"""Of a tensor of integers: kernels round up to one step otherwise than to nearest."""
_MOST = 2**28
_SEEDS = 2
Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunOfFile:
    """What a file gave for inputs: real numbers, by the number of the tensor."""

    inputs: list[Array]
    values: dict[int, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far outputs of the whole model are from those of the file.

    Attributes:
        relative: Largest difference over the largest magnitude of the output.
        steps: Largest difference in steps of the output's grid; 0 for floats.
    """

    relative: float
    steps: float


def run_file(content: bytes, graph: SourceGraph, where: str) -> list[RunOfFile]:
    """Run a file on random inputs, all of its tensors kept.

    The graph gets the shapes of the run, in place: those that a file stores may be
    wrong.
    """
    specs = [spec_of(graph.tensors[number]) for number in graph.inputs]
    rounds = [random_inputs(specs, seed) for seed in range(_SEEDS)]
    wanted = sorted({n for call in graph.calls for n in call.outputs if n >= 0})
    with FileExaminer(len(content)) as examiner:
        found = examiner.run(
            content,
            rounds,
            where,
            tensors=[len(g["tensors"]) for g in graph.model["subgraphs"]],
            wanted=[(0, number) for number in wanted],
            most=_MOST,
        )
    for tensor, shape in zip(graph.tensors, found[0].shapes[0], strict=True):
        if shape is not None:
            tensor["shape"] = np.array(shape, "<i4")
    return [
        _run(graph, arrays, wanted, values)
        for arrays, values in zip(rounds, found, strict=True)
    ]


def _run(
    graph: SourceGraph, arrays: list[Array], wanted: list[int], found: TensorValues
) -> RunOfFile:
    values = dict(zip(graph.inputs, arrays, strict=True))
    kept = zip(wanted, found.values, strict=True)
    values.update({n: value for n, value in kept if value is not None})
    values.update(zip(graph.outputs, found.outputs, strict=False))
    real = {n: graph.real(n, np.asarray(value)) for n, value in values.items()}
    return RunOfFile(inputs=[real[n] for n in graph.inputs], values=real)


def joined(runs: Sequence[RunOfFile]) -> RunOfFile:
    """Several runs as one of a larger batch."""
    first, *_ = runs
    return RunOfFile(
        inputs=[
            np.concatenate(arrays)
            for arrays in zip(*(r.inputs for r in runs), strict=True)
        ],
        values={n: np.concatenate([r.values[n] for r in runs]) for n in first.values},
    )


def check_operators(
    rebuilt: RebuiltModel, graph: SourceGraph, runs: Sequence[RunOfFile], where: str
) -> None:
    """Run each layer on what its operator was given; the first that differs is refused.

    The refusal is an ExportError.
    """
    for run in runs:
        values = dict(run.values)
        for operator in rebuilt.operators:
            excess = _excess(operator, graph, values)
            if excess is not None:
                raise ExportError(
                    f"{operator.label} {graph.name(operator.call.output)!r} of {where} "
                    f"and the Keras layer made of it give different results: {excess}. "
                    "Nothing is handed out. Please report it, with the file."
                )


def check_outputs(
    graph: SourceGraph,
    runs: Sequence[RunOfFile],
    before: Sequence[Sequence[Array]],
    where: str,
) -> None:
    """Refuse a file that gives something else since its dilations were joined.

    `before` has the outputs of each run until then. The refusal is an ExportError.
    """
    for run, outputs in zip(runs, before, strict=True):
        for number, other in zip(graph.outputs, outputs, strict=True):
            distance, allowed = difference(graph, number, run.values[number], other)
            if not distance <= allowed:
                raise ExportError(
                    f"The dilated convolutions of {where} give something else at "
                    f"{graph.name(number)!r} as one operator each: off by "
                    f"{distance:.3g}. Please report it, with the file."
                )


def _excess(
    operator: RebuiltOperator, graph: SourceGraph, values: dict[int, Array]
) -> str | None:
    """What differs from the file's values; None where nothing does.

    Values that the file did not keep are put in their place: what reads them is
    compared then.
    """
    tensors = [keras.ops.convert_to_tensor(values[n]) for n in operator.inputs]
    given = operator.run(tensors)
    for number, value in zip(operator.call.outputs, given, strict=False):
        mine = _numpy(value)
        other = values.setdefault(number, mine)
        if mine.shape != other.shape:
            return f"shape {mine.shape}, and in the file {other.shape}"
        distance, allowed = difference(graph, number, mine, other)
        if not distance <= allowed and graph.grid(number) is None and operator.layers:
            allowed *= _cancelled(operator, tensors) / max(_largest(other), 1e-30)
        if not distance <= allowed:
            return f"off by {distance:.3g}, where {allowed:.3g} is allowed"
    return None


def _cancelled(operator: RebuiltOperator, tensors: Sequence[Any]) -> float:
    """The largest sum of magnitudes that an operator adds up: it rounds in these."""
    (layer,) = operator.layers
    weights = layer.get_weights()
    try:
        layer.set_weights([np.abs(values) for values in weights])
        given = operator.run([keras.ops.abs(tensor) for tensor in tensors])
    finally:
        layer.set_weights(weights)
    return max(_largest(_numpy(value)) for value in given)


def difference(
    graph: SourceGraph, number: int, mine: Array, other: Array
) -> tuple[float, float]:
    """How far values of a tensor are from the file's, and how far they may be."""
    mine, other = mine.astype("f8"), other.astype("f8")
    grid = graph.grid(number)
    if grid is not None:
        low, high = graph.ends(number) or (-np.inf, np.inf)
        scale = float(grid[0].max())
        return _largest(np.clip(mine, low, high) - other) / scale, _STEPS
    special = ~np.isfinite(other)
    if not np.array_equal(mine[special], other[special], equal_nan=True):
        return float("inf"), FLOAT_TOLERANCE
    if graph.kind(number).dtype[:5] != "float":
        return _largest(mine - other), 0.0
    size = max(_largest(other[~special]), 1e-30)
    return _largest((mine - other)[~special]) / size, FLOAT_TOLERANCE


def deviation(
    model: keras.Model, graph: SourceGraph, runs: Sequence[RunOfFile]
) -> Deviation:
    """How far the outputs of the whole model are from the file's, on all runs."""
    relative = steps = 0.0
    for run in runs:
        for number, mine in zip(
            graph.outputs, outputs_of(model, run.inputs), strict=True
        ):
            other = run.values[number]
            size = max(_largest(other), 1e-30)
            relative = max(relative, _largest(mine.astype("f8") - other) / size)
            if graph.grid(number) is not None:
                steps = max(steps, difference(graph, number, mine, other)[0])
    return Deviation(relative=relative, steps=steps)


def outputs_of(model: keras.Model, inputs: Sequence[Array]) -> list[Array]:
    """Outputs of a model for arrays, in a list."""
    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    given = model(tensors[0] if len(tensors) == 1 else tensors, training=False)
    return [_numpy(value) for value in keras.tree.flatten(given)]


def _numpy(value: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(value))


def _largest(values: Array) -> float:
    found = np.abs(values).max(initial=0.0)
    return float(found)
