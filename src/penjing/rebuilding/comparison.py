"""Whether a rebuilt model computes what the file does, operator by operator."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from penjing.errors import ExportError
from penjing.rebuilding.file_runs import Array, RunOfFile
from penjing.rebuilding.graph_building import RebuiltModel, RebuiltOperator, asked
from penjing.rebuilding.source_graph import SourceGraph

FLOAT_TOLERANCE = 1e-5
"""Of the largest magnitude of a tensor: float32 sums in another order."""
MOST_STEPS = 1.5
"""Of a tensor of integers: kernels round up to one step otherwise than to nearest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far outputs of the whole model are from those of the file.

    Attributes:
        relative: Largest difference over the largest magnitude of the output.
        steps: Largest difference in steps of the output's grid; 0 for floats.
    """

    relative: float
    steps: float


def check_operators(
    rebuilt: RebuiltModel, graph: SourceGraph, runs: Sequence[RunOfFile], where: str
) -> list[RebuiltOperator]:
    """Run each layer on what its operator was given; the first that differs is refused.

    The refusal is an ExportError. Gives the operators of which nothing was compared, as
    they gave or were given no numbers (NaN) in each run.
    """
    seen: set[int] = set()
    for run in runs:
        own: dict[int, Array] = {}  # in place of what the file did not keep
        for place, operator in enumerate(rebuilt.operators):
            found = _compared(operator, graph, run, own, where)
            if found.excess is not None:
                raise ExportError(
                    f"{operator.label} {graph.name(operator.call.output)!r} of {where} "
                    f"and the Keras layer made of it give different results: "
                    f"{found.excess}. Nothing is handed out. Please report it, with "
                    "the file."
                )
            if found.is_seen:
                seen.add(place)
    return [op for place, op in enumerate(rebuilt.operators) if place not in seen]


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
            distance, allowed = difference(
                graph, number, run.real(number), other, lenient=True
            )
            if not distance <= allowed:
                raise ExportError(
                    f"The dilated convolutions of {where} give something else at "
                    f"{graph.name(number)!r} as one operator each: off by "
                    f"{distance:.3g}. Please report it, with the file."
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Compared:
    """What differs, None for nothing; whether there were numbers to compare."""

    excess: str | None = None
    is_seen: bool = False


def _compared(
    operator: RebuiltOperator,
    graph: SourceGraph,
    run: RunOfFile,
    own: dict[int, Array],
    where: str,
) -> _Compared:
    """Compare what a layer gives with the file's values.

    Those that the file did not keep are put into `own`: what reads them is compared
    then. Where inputs hold NaN, which kernels may clamp, a difference says nothing.
    """
    inputs = [own[n] if n in own else run.real(n) for n in operator.inputs]
    lenient = any(_has_nan(array) for array in inputs)
    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    given = asked(functools.partial(operator.run, tensors), graph, operator.call, where)
    is_seen = True
    for number, value in zip(operator.call.outputs, given, strict=False):
        mine = _numpy(value)
        other = run.real(number) if number in run.stored else mine
        if number not in run.stored:
            own[number] = mine
        if mine.shape != other.shape:
            return _Compared(
                excess=f"shape {mine.shape}, and in the file {other.shape}"
            )
        is_seen = is_seen and _has_numbers(mine, other)
        distance, allowed = difference(graph, number, mine, other, lenient=lenient)
        if not distance <= allowed and graph.grid(number) is None and operator.layers:
            allowed *= _cancelled(operator, tensors) / max(_largest(other), 1e-30)
        if not distance <= allowed:
            if lenient:
                return _Compared()
            return _Compared(
                excess=f"off by {distance:.3g}, where {allowed:.3g} is allowed"
            )
    return _Compared(is_seen=is_seen)


def _has_nan(values: Array) -> bool:
    return values.dtype.kind == "f" and bool(np.isnan(values).any())


def _has_numbers(mine: Array, other: Array) -> bool:
    """Whether there is a place at which both have a number, or no place at all."""
    if mine.dtype.kind != "f" or not mine.size:
        return True
    return not (np.isnan(mine) | np.isnan(other.astype("f8"))).all()


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
    graph: SourceGraph, number: int, mine: Array, other: Array, *, lenient: bool = False
) -> tuple[float, float]:
    """How far values of a tensor are from the file's, and how far they may be.

    What is no number (NaN) in a file of floats has to be none in both, if not
    `lenient`; integers have none, so there it is not compared.
    """
    if mine.shape != other.shape:
        return float("inf"), FLOAT_TOLERANCE
    mine, other = mine.astype("f8"), other.astype("f8")
    nans, other_nans = np.isnan(mine), np.isnan(other)
    grid = graph.grid(number)
    if grid is None and not lenient and (nans != other_nans).any():
        return float("inf"), FLOAT_TOLERANCE
    there = ~(nans | other_nans)
    mine, other = mine[there], other[there]
    if grid is not None:
        low, high = graph.ends(number) or (-np.inf, np.inf)
        scale = float(grid[0].max())
        return _largest(np.clip(mine, low, high) - other) / scale, MOST_STEPS
    special = np.isinf(other)
    if not np.array_equal(mine[special], other[special]):
        return float("inf"), FLOAT_TOLERANCE
    mine, other = mine[~special], other[~special]
    if graph.kind(number).dtype[:5] != "float":
        return _largest(mine - other), 0.0
    return _largest(mine - other) / max(_largest(other), 1e-30), FLOAT_TOLERANCE


def deviation(
    model: keras.Model, graph: SourceGraph, runs: Sequence[RunOfFile]
) -> Deviation:
    """How far the outputs of the whole model are from the file's, on all runs.

    What is no finite number in either is not compared.
    """
    relative = steps = 0.0
    for run in runs:
        for number, mine in zip(
            graph.outputs, outputs_of(model, run.inputs), strict=True
        ):
            mine, other = mine.astype("f8"), run.real(number).astype("f8")
            there = np.isfinite(mine) & np.isfinite(other)
            mine, other = mine[there], other[there]
            size = max(_largest(other), 1e-30)
            relative = max(relative, _largest(mine - other) / size)
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
