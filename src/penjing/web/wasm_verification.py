"""Whether a file computes the same in WebAssembly, and how much faster."""

from __future__ import annotations

import dataclasses
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from penjing.errors import ExportError, FileFormatError
from penjing.files import as_path
from penjing.json_values import JsonValue
from penjing.measurement.latency_report import (
    LatencyConditions,
    LatencyReport,
    summarize_rounds,
)
from penjing.measurement.machine import processor_name
from penjing.progress import ignore_progress
from penjing.runtime.interpreter import LiteRTModel
from penjing.runtime.timing_rounds import check_counts, fitting_runs, take_turns
from penjing.sparse.dense_twin import dense_twin, has_sparse_tensors
from penjing.tflite.loading import load_records
from penjing.tflite.tensors import TensorType, all_tensors
from penjing.web.wasm_comparison import Distance, choose_samples, compare_outputs
from penjing.web.wasm_latency import WasmTiming, fixed_content
from penjing.web.wasm_session import WasmModel, WasmSession

PYTHON_TOLERANCE = 1e-3
"""Difference to the kernels of Python's runtime that is taken for rounding."""

INTEGER_TOLERANCE = 0.05
"""The same for files that compute with integers: a step of a coarse grid."""

_WARM_UP = 5
_INTEGERS = (TensorType.UINT8, TensorType.INT16, TensorType.INT8, TensorType.INT4)
_TWIN_NAME = "(the same file, dense)"
_CAUSES = (
    (
        "its dense twin in the same runtime",
        "Sparse kernels run some networks wrongly and say nothing: use "
        "penjing.prepare_for_sparse_inference, or ship a dense file.",
    ),
    (
        "the same file in Python",
        "A dense file is wrong there in the same way. Export it anew with "
        "runtime='wasm', and compare on real `inputs`.",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyReport(JsonValue):
    """What `verify` found; it raises where outputs differ.

    Attributes:
        file: The file.
        twin: The dense file that it was compared with; "(the same file, dense)" where
            it was made from the file.
        samples: How many inputs were compared.
        difference: Largest difference to the outputs of the twin in the same runtime.
        relative_difference: The same over the largest magnitude of that output.
        python_difference: Largest difference to the outputs of the LiteRT runtime in
            Python, which has other kernels.
        python_relative_difference: The same over the largest magnitude.
        latency: Times of the twin, which comes first, and of the file.
    """

    json_properties = ("ratio",)

    file: str
    twin: str
    samples: int
    difference: float
    relative_difference: float
    python_difference: float
    python_relative_difference: float
    latency: LatencyReport

    @property
    def ratio(self) -> float:
        """How many times faster the file is than its twin."""
        return self.latency.files[1].speedup

    def __str__(self) -> str:
        twin, file = self.latency.files
        return (
            f"{self.file} in {self.latency.conditions.runtime}: outputs of "
            f"{self.samples} samples differ from those of {self.twin} by at most "
            f"{self.difference:.2g}, from those in Python by "
            f"{self.python_difference:.2g}. "
            f"{file.milliseconds:.4g} ms against {twin.milliseconds:.4g} ms: "
            f"{self.ratio:.2f}x."
        )


def verify(
    file: str | os.PathLike[str],
    runtime: str = "wasm",
    *,
    twin: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    samples: int = 8,
    engine: str = "node",
    threads: int = 1,
    rounds: int = 10,
    tolerance: float = 1e-4,
) -> VerifyReport:
    """Prove that a file computes the same in the runtime that it is for, and how fast.

    The file and its dense twin run in LiteRT.js in turns. Sparse files that are right
    in Python can be silently wrong there, and dense ones too in rare cases: so outputs
    are compared with the twin's in the same runtime, and with those in Python.

    Args:
        file: A `.tflite` file that LiteRT.js runs as it is, so without free sizes.
        runtime: "wasm".
        twin: A dense file of the same network. None: it is made from `file`, whose
            sparse tensors are written as dense ones.
        inputs: Real inputs `(samples, ...)`: an array, or a list of them in the order
            of the file's inputs, or a dict by name. None: random ones.
        samples: How many inputs are compared at most.
        engine: "node", or "chromium" for a browser without a window.
        threads: Threads that the runtime may use; Node has one.
        rounds: Rounds of the timing.
        tolerance: Difference to the twin that is taken for rounding, over the largest
            magnitude of an output.

    Returns:
        Differences, times and their ratio.

    Raises:
        ExportError: If outputs differ, or are no numbers.
        FileFormatError: If a file is missing, corrupt, or does not run there.
        DataError: If `inputs` do not fit.
        MissingDependencyError: If Node, a browser or the npm packages are missing.
        ValueError: If an argument is out of range.

    Example:
        >>> verify("sparse.tflite").ratio  # doctest: +SKIP
        3.4
    """
    if runtime != "wasm":
        raise ValueError(f"`runtime` must be 'wasm', got {runtime!r}.")
    check_counts(samples=samples, rounds=rounds, threads=threads)
    if not isinstance(tolerance, numbers.Real) or not tolerance >= 0:
        raise ValueError(f"`tolerance` must be 0 or more, got {tolerance!r}.")
    path = as_path(file)
    content = _checked_content(path)
    twin_name, twin_content = _twin(path, content, twin)
    reference = LiteRTModel(path)
    arrays = choose_samples(reference, inputs, samples)
    with WasmSession(engine, threads=threads) as session:
        model = session.load(content, str(path))
        models = {twin_name: session.load(twin_content, twin_name), str(path): model}
        _check_signatures(models)
        distances = compare_outputs(list(models.values()), reference, arrays)
        _check(
            str(path), twin, distances, (tolerance, _python_tolerance(content, path))
        )
        conditions = LatencyConditions(
            runtime=session.runtime,
            processor=processor_name(),
            threads=threads,
            batch=1,
            cold_caches=False,
            rounds=rounds,
            warm_up=_WARM_UP,
        )
        latency = _times(models, conditions)
    sizes = (len(twin_content), len(content))
    rows = (
        dataclasses.replace(row, bytes=size)
        for row, size in zip(latency.files, sizes, strict=True)
    )
    return VerifyReport(
        file=str(path),
        twin=twin_name,
        samples=len(arrays[0]),
        difference=distances[0].absolute,
        relative_difference=distances[0].relative,
        python_difference=distances[1].absolute,
        python_relative_difference=distances[1].relative,
        latency=dataclasses.replace(latency, files=tuple(rows)),
    )


def _checked_content(path: Path) -> bytes:
    content, was_free = fixed_content(path)
    if was_free:
        raise FileFormatError(
            f"{path} leaves its batch or other sizes free, and LiteRT.js runs no such "
            "file. Export it with runtime='wasm', which gives it a batch of 1."
        )
    return content


def _twin(
    path: Path, content: bytes, twin: str | os.PathLike[str] | None
) -> tuple[str, bytes]:
    if twin is None:
        return _TWIN_NAME, dense_twin(content, str(path))
    other = as_path(twin)
    if other.resolve() == path.resolve():
        raise ValueError(
            f"`twin` is the file itself, {path}. Leave it out: a dense twin is then "
            "made from the file."
        )
    other_content = fixed_content(other)[0]
    if has_sparse_tensors(other_content, str(other)):
        raise ValueError(
            f"`twin` must be a dense file, but {other} has sparse tensors. Leave it "
            "out: a dense twin is then made from the file."
        )
    return str(other), other_content


def _python_tolerance(content: bytes, path: Path) -> float:
    tensors = all_tensors(load_records(content, str(path)))
    integers = any(tensor["type"] in _INTEGERS for tensor in tensors)
    return INTEGER_TOLERANCE if integers else PYTHON_TOLERANCE


def _check_signatures(models: Mapping[str, WasmModel]) -> None:
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
    file: str,
    twin: str | os.PathLike[str] | None,
    distances: tuple[Distance, Distance],
    tolerances: tuple[float, float],
) -> None:
    """Refuse outputs that differ from the twin's or from those in Python."""
    pairs = zip(distances, tolerances, strict=True)
    is_right = [distance.relative <= limit for distance, limit in pairs]
    if all(is_right):
        return
    place = is_right.index(False)
    distance, limit = distances[place], tolerances[place]
    found = f"by {distance.absolute:.3g}, which is {distance.relative:.3g} of their "
    found += f"largest magnitude; {limit:g} is allowed"
    if np.isinf(distance.absolute):
        found = "or hold NaN or infinity"
    if is_right[1] and twin is not None:
        raise ExportError(
            f"{file} gives in LiteRT.js what it gives in Python, but not what "
            f"{os.fspath(twin)} gives there: outputs differ {found}. Is the twin of "
            "the same network? Without `twin` it is made from the file."
        )
    other, cause = _CAUSES[place]
    raise ExportError(
        f"{file} is wrong in LiteRT.js: its outputs differ from those of {other} "
        f"{found}. Do not ship it. {cause}"
    )


def _times(
    models: Mapping[str, WasmModel], conditions: LatencyConditions
) -> LatencyReport:
    timed = [WasmTiming(model) for model in models.values()]
    blocks = [fitting_runs(file, False) for file in timed]
    measured = take_turns(
        timed, blocks, conditions.rounds, conditions.warm_up, False, ignore_progress
    )
    return summarize_rounds(conditions, dict(zip(models, measured, strict=True)))
