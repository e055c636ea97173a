"""How long `.tflite` files take, measured so that they can be compared."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence

from penjing.measurement.latency_report import (
    LatencyConditions,
    LatencyReport,
    summarize_rounds,
)
from penjing.measurement.machine import litert_name
from penjing.progress import Listener, Progress, listening
from penjing.runtime.timing import TimedFile, time_operators
from penjing.runtime.timing_rounds import check_rounds, checked_files, take_turns


def measure_latency(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    threads: int = 1,
    batch: int = 1,
    rounds: int = 30,
    runs: int | None = None,
    warm_up: int = 3,
    cold_caches: bool = False,
    profile: bool = False,
    progress: Listener | bool = True,
) -> LatencyReport:
    """Time `.tflite` files against each other, in rounds in which they take turns.

    Each file lives in a process of its own, in which it runs a block of `runs` whenever
    it is its turn; the order turns with every round. So what disturbs the machine
    for a while disturbs all files alike, and ratios are steadier than times. Inputs are
    random: some kernels are faster on zeros.

    Args:
        files: The files; the first is the one that others are compared to.
        threads: Threads that the runtime may use.
        batch: Samples in one run. Files with a fixed batch must have it. Other sizes
            that a file leaves free are 32.
        rounds: Rounds that are measured, 1 or more; the confidence interval comes from
            how they differ.
        runs: Runs in one round. None: as many as fit into about 20 milliseconds, at
            most 200, and at most 5 with `cold_caches`.
        warm_up: Rounds before those, not counted.
        cold_caches: Touch 64 MB of memory before each run, as a program that does other
            work between two runs. A loop finds the weights of a small file in the
            caches each time, which a real program need not.
        profile: Also time each operator of the files by itself, at the shapes stored
            in them: a batch of 1, and 1 for other sizes that are free. The
            runtime's Python interface offers no profile. Operators that run together
            differ a little: they share caches, and some are fused.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        For each file median, quartiles and minimum in milliseconds, the ratio to the
        first file with its 95 % confidence interval, and memory.

    Raises:
        FileFormatError: If a file is missing, corrupt, no `.tflite` file, or crashes.
        DataError: If a file takes inputs that cannot be made, such as texts or a batch
            that does not fit into memory.
        MissingDependencyError: If the runtime is not installed.
        ValueError: If an argument is out of range, or a file is given twice.

    Example:
        >>> report = measure_latency(["float.tflite", "int8.tflite"])  # doctest: +SKIP
        >>> report.files[1].speedup  # doctest: +SKIP
        2.6
    """
    paths = checked_files(files)
    check_rounds(
        threads=threads, batch=batch, rounds=rounds, runs=runs, warm_up=warm_up
    )
    runtime = litert_name()
    with listening(progress) as listen:
        with contextlib.ExitStack() as stack:
            timed = {}
            for number, path in enumerate(paths):
                listen(Progress(stage="Loading", done=number, total=len(paths)))
                file = TimedFile(path, threads=threads, batch=batch)
                timed[path] = stack.enter_context(file)
            _check_batches(timed.values(), batch)
            measured = take_turns(
                timed,
                rounds=rounds,
                warm_up=warm_up,
                runs=runs,
                cold_caches=cold_caches,
                progress=listen,
            )
        operators = {}
        for number, path in enumerate(paths if profile else []):
            listen(Progress(stage="Timing operators", done=number, total=len(paths)))
            operators[path] = time_operators(path, threads)
    conditions = LatencyConditions(
        runtime=runtime,
        threads=threads,
        batch=batch,
        cold_caches=cold_caches,
        rounds=rounds,
        warm_up=warm_up,
    )
    memory = {path: file.memory for path, file in timed.items()}
    return summarize_rounds(conditions, measured, memory=memory, operators=operators)


def _check_batches(files: Iterable[TimedFile], batch: int) -> None:
    for file in files:
        if file.batch != batch:
            raise ValueError(
                f"{file.path} has a fixed batch of {file.batch}, got batch={batch}. "
                f"Files are compared at one batch: pass batch={file.batch}, or export "
                "the model with a free one."
            )
