"""Whether a file computes the same in another runtime, and how much faster."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from penjing.arguments import check_counts, check_tolerance
from penjing.errors import ExportError
from penjing.files import as_path
from penjing.measurement.latency_report import (
    LatencyConditions,
    LatencyReport,
    common_batch,
    summarize_rounds,
)
from penjing.proof.output_comparison import (
    Comparison,
    Run,
    RunningFile,
    choose_samples,
    compare_outputs,
    run_first,
)
from penjing.proof.verify_report import SUMMED, VerifyReport
from penjing.runtime.file_bounds import refuse_packed
from penjing.runtime.interpreter import LiteRTModel
from penjing.runtime.timing_rounds import Timed, take_turns
from penjing.sparse.dense_twin import dense_twin, has_sparse_tensors
from penjing.specializing.data_sizes import at_sizes_of
from penjing.tflite.loading import load_records
from penjing.tflite.tensors import TensorType, all_tensors, data_of, is_quantized

PYTHON_TOLERANCE = 1e-3
"""Difference to the kernels of Python's runtime that is taken for rounding."""

INTEGER_TOLERANCE = 0.05
"""The same for files that compute with integers: a step of a coarse grid."""

TWIN_TOLERANCE = 1e-4
"""Difference to the twin that is taken for rounding, over the largest magnitude."""

SAMPLES = 8
"""Inputs that are compared, unless the user says how many."""

_WARM_UP = 5
_INTEGERS = (TensorType.UINT8, TensorType.INT16, TensorType.INT8, TensorType.INT4)
_TWIN_NAME = "(the same file, dense)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProvingRuntime:
    """A runtime that files are proven in: all that differs between two of them.

    Attributes:
        name: What messages call it.
        start: Starts it, given `engine` and `threads`.
        read: Gives the bytes of a file as it is to run there; refuses what does not.
        read_twin: The same for a twin, which may be made to fit.
        wrong_to_twin: What to do where outputs differ from those of the dense twin.
        wrong_to_python: What to do where they differ from those in Python.
        engine: What runs it unless the user says otherwise; "" for no choice.
        is_timed: Whether it tells times of the device.
        reference: Loads the file in Python, for its outputs to be compared with.
        reference_name: What messages call that.
        beyond_rounding: Says what of the differences to Python is more than the sum of
            roundings, given a file of integers, what messages call it, and the runs
            that differ; None where they are not looked into.
    """

    name: str
    start: Callable[..., AbstractContextManager[RuntimeSession]]
    read: Callable[[Path], bytes]
    read_twin: Callable[[Path], bytes]
    wrong_to_twin: str
    wrong_to_python: str
    engine: str = ""
    is_timed: bool = True
    reference: Callable[[Path], LiteRTModel] = LiteRTModel
    reference_name: str = "the same file in Python"
    beyond_rounding: Callable[[bytes, str, Sequence[Run]], str | None] | None = None


class RuntimeSession(Protocol):
    """A runtime that was started, named as "LiteRT.js 2.5.3 in Node 20.20.2"."""

    runtime: str

    def load(self, content: bytes, where: str) -> RunningFile:
        """Load a file, which messages call `where`; `Timed` if the runtime is."""


def prove(
    runtime: ProvingRuntime,
    file: str | os.PathLike[str],
    *,
    twin: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    samples: int | None = None,
    engine: str | None = None,
    threads: int = 1,
    rounds: int = 10,
    tolerance: float | None = None,
) -> VerifyReport:
    """Prove that a file computes the same in a runtime; see `penjing.verify`."""
    samples = SAMPLES if samples is None else samples
    tolerance = TWIN_TOLERANCE if tolerance is None else tolerance
    check_counts(samples=samples, rounds=rounds, threads=threads)
    check_tolerance(tolerance)
    path = as_path(file)
    with at_sizes_of(path, inputs) as sized:
        content = runtime.read(sized)
        refuse_packed(content, str(path))
        twin_name, twin_content = _twin(runtime, path, content, twin, inputs)
        reference = runtime.reference(sized)
        arrays = choose_samples(reference, inputs, samples)
        run_first(reference, arrays)  # within bounds, which other runtimes do not have
        chosen = runtime.engine if engine is None else engine
        with runtime.start(chosen, threads=threads) as session:
            model = session.load(content, str(path))
            twin_model = session.load(twin_content, twin_name)
            models = {twin_name: twin_model, str(path): model}
            _check_signatures(models)
            integers = _integers(content, path)
            limits = (tolerance, _python_tolerance(integers))
            found = compare_outputs(list(models.values()), reference, arrays, limits[1])
            looks = runtime.beyond_rounding if integers else None
            doubtful = (content, str(path), found.doubtful)
            explain = looks and functools.partial(looks, *doubtful)
            passed_by = _check(runtime, str(path), twin, found, limits, explain)
            latency = None
            if runtime.is_timed:
                sizes = {twin_name: len(twin_content), str(path): len(content)}
                latency = _latency(session.runtime, models, sizes, threads, rounds)
    return VerifyReport(
        file=str(path),
        twin=twin_name,
        samples=len(arrays[0]),
        difference=found.to_twin.absolute,
        relative_difference=found.to_twin.relative,
        python_difference=found.to_python.absolute,
        python_relative_difference=found.to_python.relative,
        passed_by=passed_by,
        latency=latency,
        runtime=session.runtime,
    )


def _latency(
    runtime: str,
    models: Mapping[str, RunningFile],
    sizes: Mapping[str, int],
    threads: int,
    rounds: int,
) -> LatencyReport:
    timed = cast(Mapping[str, Timed], models)
    times = take_turns(timed, rounds=rounds, warm_up=_WARM_UP)
    conditions = LatencyConditions(
        runtime=runtime,
        threads=threads,
        batch=common_batch({path: model.inputs for path, model in models.items()}),
        rounds=rounds,
        warm_up=_WARM_UP,
    )
    return summarize_rounds(conditions, times, sizes=sizes)


def _twin(
    runtime: ProvingRuntime,
    path: Path,
    content: bytes,
    twin: str | os.PathLike[str] | None,
    inputs: Any,
) -> tuple[str, bytes]:
    if twin is None:
        return _TWIN_NAME, dense_twin(content, str(path))
    other = as_path(twin)
    if other.resolve() == path.resolve():
        raise ValueError(
            f"`twin` is the file itself, {path}. Leave it out: a dense twin is then "
            "made from the file."
        )
    with at_sizes_of(other, inputs) as sized:
        other_content = runtime.read_twin(sized)
    refuse_packed(other_content, str(other))
    if has_sparse_tensors(other_content, str(other)):
        raise ValueError(
            f"`twin` must be a dense file, but {other} has sparse tensors. Leave it "
            "out: a dense twin is then made from the file."
        )
    return str(other), other_content


def _integers(content: bytes, path: Path) -> set[int] | None:
    """Types of the integers that a file computes with; None where it has none at all.

    Those of constants and those without a scale, as of pixels and ids, do not count:
    then a file may compute with floats alone.
    """
    model = load_records(content, str(path))
    tensors = [one for one in all_tensors(model) if one["type"] in _INTEGERS]
    made = [t for t in tensors if not len(data_of(model, t)) and is_quantized(t)]
    return {int(one["type"]) for one in made} if tensors else None


def _python_tolerance(integers: set[int] | None) -> float:
    """What kernels may round: integers of 16 bits are as fine a grid as it takes.

    Of such files the weights have 8 bits, and nothing that is computed does.
    """
    is_fine = integers is None or integers == {TensorType.INT16}
    return PYTHON_TOLERANCE if is_fine else INTEGER_TOLERANCE


def _check_signatures(models: Mapping[str, RunningFile]) -> None:
    """Refuse a twin that takes or gives other arrays than the file."""
    found = {
        name: tuple(
            sorted((spec.shape, spec.dtype) for spec in side)
            for side in (model.inputs, model.outputs)
        )
        for name, model in models.items()
    }
    (twin, of_twin), (file, of_file) = found.items()
    if of_twin != of_file:
        raise ValueError(
            f"`twin` must be a file of the same network, but {twin} has the inputs and "
            f"outputs {of_twin}, and {file} {of_file}. Leave it out: a dense twin is "
            "then made from the file."
        )


def _check(
    runtime: ProvingRuntime,
    file: str,
    twin: str | os.PathLike[str] | None,
    compared: Comparison,
    tolerances: tuple[float, float],
    explain: Callable[[], str | None] | None,
) -> str:
    """Refuse outputs that differ from the twin's or from those in Python.

    Those from Python may be the sum of roundings: `explain` says why they are not.
    Gives why the file passes.
    """
    distances = (compared.to_twin, compared.to_python)
    pairs = zip(distances, tolerances, strict=True)
    is_right = [distance.relative <= limit for distance, limit in pairs]
    if all(is_right):
        return "rounding"
    place = is_right.index(False)
    distance, limit = distances[place], tolerances[place]
    found = f"by {distance.absolute:.3g}, which is {distance.relative:.3g} of their "
    found += f"largest magnitude; {limit:g} is allowed"
    if np.isinf(distance.absolute):
        found = "or hold NaN or infinity"
    elif explain is not None and place == 1:
        fault = explain()
        if fault is None:
            return SUMMED
        found += f". {fault.rstrip('.')}"
    if is_right[1] and twin is not None:
        raise ExportError(
            f"{file} gives in {runtime.name} what it gives in Python, but not what "
            f"{os.fspath(twin)} gives there: outputs differ {found}. Is the twin of "
            "the same network? Without `twin` it is made from the file."
        )
    other, advice = (
        ("its dense twin in the same runtime", runtime.wrong_to_twin),
        (runtime.reference_name, runtime.wrong_to_python),
    )[place]
    raise ExportError(
        f"{file} is wrong in {runtime.name}: its outputs differ from those of {other} "
        f"{found}. Do not ship it. {advice}"
    )
