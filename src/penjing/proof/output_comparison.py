"""Outputs of files in another runtime, next to each other and to those in Python."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from penjing.errors import DataError
from penjing.runtime.interpreter import LiteRTModel, TensorSpec, fixed_batch
from penjing.runtime.sample_inputs import random_inputs

Array = np.ndarray[Any, Any]
Run = tuple[Sequence[Array], Sequence[Array]]
"""What a file was fed, and what it gave, as it is stored."""


# Steps that an operator may round. Outputs that are small integers have no magnitude to
# speak of, so theirs is at least that of which these steps are what is let pass.
_ROUNDED_STEPS = {"int16": 4.0}
_ROUNDED_STEPS_OF_8_BITS = 2.0


class RunningFile(Protocol):
    """A file that a runtime has loaded, to be run."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def feed(self, arrays: Sequence[Array]) -> None:
        """Set the inputs of the following runs, as they are stored."""

    def run(self) -> list[Array]:
        """Run it once; gives one array for each output."""


class Distance:
    """How far outputs are apart, at most, over all that was added.

    `specs` describe them, where they are known, and `share` is what is let pass.
    """

    def __init__(
        self, specs: Sequence[TensorSpec] = (), share: float = math.inf
    ) -> None:
        self._largest: dict[int, float] = {}
        self._counts = {place for place, spec in enumerate(specs) if _counts(spec)}
        self._scales = {place: _least(spec, share) for place, spec in enumerate(specs)}

    def add(self, outputs: Sequence[Array], others: Sequence[Array]) -> None:
        """Compare the outputs of one run with those of another."""
        for place, (mine, other) in enumerate(zip(outputs, others, strict=True)):
            largest, scale = _difference(mine, other)
            self._largest[place] = max(self._largest.get(place, 0.0), largest)
            self._scales[place] = max(self._scales.get(place, 0.0), scale)

    @property
    def absolute(self) -> float:
        """The largest difference; infinite where a value is no number."""
        return max(self._largest.values(), default=0.0)

    @property
    def relative(self) -> float:
        """The largest difference over the largest magnitude of its output.

        Of integers with a scale the magnitude is never less than some steps of theirs;
        of others, such as numbers of classes, any difference is as large as they are.
        """
        worst = 0.0
        for place, largest in self._largest.items():
            scale = self._scales[place]
            if place in self._counts and 0 < largest < math.inf:
                scale = largest
            worst = max(worst, largest / scale if scale else (largest and np.inf))
        return float(worst)


def choose_samples(reference: LiteRTModel, inputs: Any, count: int) -> list[Array]:
    """Give samples to compare a file on: for each input an array `(samples, ...)`.

    They are the user's, or random ones for None: `count` at most, rounded to whole
    batches of the file. Inputs that do not fit are a DataError.
    """
    batch = fixed_batch(reference.inputs)
    if inputs is None:
        seeds = range(-(-count // batch))
        columns = zip(*(random_inputs(reference.inputs, s) for s in seeds), strict=True)
        stored = [np.concatenate(column) for column in columns]
        pairs = zip(reference.inputs, stored, strict=True)
        return [spec.decode(array) for spec, array in pairs]
    ordered = reference.match(inputs)
    count = max(min(count, len(ordered[0])) // batch, 1) * batch
    arrays = [np.resize(array, (count, *array.shape[1:])) for array in ordered]
    check_finite(arrays)
    return arrays


def check_finite(arrays: Sequence[Array]) -> None:
    """Refuse `inputs` of a user that are no numbers, as a DataError."""
    if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
        raise DataError("`inputs` hold NaN or infinity. Give numbers to compare on.")


def run_first(reference: LiteRTModel, arrays: Sequence[Array]) -> None:
    """Run a file on its first samples; one that crashes or never ends is refused."""
    batch = fixed_batch(reference.inputs)
    reference.predict([array[:batch] for array in arrays], batch)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """How far a file is from its twin, and from itself in Python.

    `doubtful` are the runs that differ from those in Python by more than a share of
    their largest magnitude: what the file was fed, and what it gave, as it is stored.
    """

    to_twin: Distance
    to_python: Distance
    doubtful: tuple[Run, ...] = ()


def compare_outputs(
    models: Sequence[RunningFile],
    reference: LiteRTModel,
    arrays: Sequence[Array],
    share: float = np.inf,
) -> Comparison:
    """Run a file, its twin and the file in Python on samples.

    The twin and the file, `models`, run in one runtime. Each sample runs twice, the
    second time with all in the opposite order: what reads memory that nobody wrote need
    not be wrong the first time. `arrays` has an array `(samples, ...)` for each input.
    Gives how far the file is from its twin, and from itself in Python.
    """
    specs = reference.outputs
    to_twin, to_python = Distance(specs, share), Distance(specs, share)
    doubtful: list[Run] = []
    batch = fixed_batch(reference.inputs)
    starts = range(0, len(arrays[0]), batch)
    for order, step in ((starts, 1), (reversed(starts), -1)):
        for start in order:
            part = [array[start : start + batch] for array in arrays]
            runs = [_run(model, reference, part) for model in models[::step]][::step]
            outputs = [
                _decoded(model, reference, run[1])
                for model, run in zip(models, runs, strict=True)
            ]
            found = reference.predict(part)
            expected = found if isinstance(found, list) else [found]
            to_twin.add(outputs[1], outputs[0])
            to_python.add(outputs[1], expected)
            alone = Distance(specs, share)
            alone.add(outputs[1], expected)
            if alone.relative > share:
                doubtful.append(runs[1])
    return Comparison(to_twin=to_twin, to_python=to_python, doubtful=tuple(doubtful))


def _run(
    model: RunningFile, reference: LiteRTModel, part: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """What a file is fed, and what it then gives, as it is stored."""
    places = _places(model.inputs, reference.inputs)
    specs = reference.inputs
    given = [specs[place].encode(part[place]) for place in places]
    model.feed(given)
    return given, model.run()


def _decoded(
    model: RunningFile, reference: LiteRTModel, stored: Sequence[Array]
) -> list[Array]:
    """Outputs in the order and as the real values that Python gives."""
    places = _places(reference.outputs, model.outputs)
    return [
        spec.decode(stored[place])
        for spec, place in zip(reference.outputs, places, strict=True)
    ]


def _places(specs: Sequence[TensorSpec], others: Sequence[TensorSpec]) -> list[int]:
    """For each spec its place among the others: by name, else by position."""
    names = [spec.name for spec in others]
    if sorted(names) == sorted(spec.name for spec in specs):
        return [names.index(spec.name) for spec in specs]
    return list(range(len(names)))


def _counts(spec: TensorSpec) -> bool:
    """Whether an output is integers without a scale: another one is another thing."""
    return np.dtype(spec.dtype).kind in "iub" and not spec.scale


def _least(spec: TensorSpec, share: float) -> float:
    """The magnitude that an output has at least."""
    steps = _ROUNDED_STEPS.get(spec.dtype, _ROUNDED_STEPS_OF_8_BITS)
    return float(spec.scale * steps / share)


def _difference(mine: Array, other: Array) -> tuple[float, float]:
    if mine.shape != other.shape:
        return float("inf"), 0.0
    a, b = np.asarray(mine, "f8"), np.asarray(other, "f8")
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        return float("inf"), 0.0
    scale = float(np.abs(b).max(initial=0.0))
    return float(np.abs(a - b).max(initial=0.0)), scale
