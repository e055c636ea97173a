"""How long `.tflite` files take in WebAssembly, in Node or in a browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from penjing.errors import FileFormatError
from penjing.files import as_path
from penjing.measurement.latency_report import (
    LatencyConditions,
    LatencyReport,
    common_batch,
    summarize_rounds,
)
from penjing.progress import Listener, Progress, listening
from penjing.runtime.file_bounds import refuse_packed
from penjing.runtime.sample_inputs import random_inputs
from penjing.runtime.timing_rounds import check_rounds, checked_files, take_turns
from penjing.specializing import specialize
from penjing.specializing.specializing import leaves_sizes_free
from penjing.tflite.loading import load_records, read_litert
from penjing.web.wasm_session import WasmSession


def measure_wasm_latency(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    engine: str = "node",
    threads: int = 1,
    rounds: int = 30,
    runs: int | None = None,
    warm_up: int = 5,
    progress: Listener | bool = True,
) -> LatencyReport:
    """Time `.tflite` files against each other in LiteRT.js, the runtime of browsers.

    All files are loaded in one process and take turns, as with `measure_latency`. One
    run takes one sample: LiteRT.js has no free batch, so sizes that a file leaves free
    are those that it stores.

    Args:
        files: The files; the first is the one that others are compared to.
        engine: "node", or "chromium" for a browser without a window.
        threads: Threads that the runtime may use; Node has one.
        rounds: Rounds that are measured.
        runs: Runs in one round. None: as many as fit into about 20 milliseconds.
        warm_up: Rounds before those, not counted, in which the engine compiles its
            fast code.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        For each file median, quartiles and minimum in milliseconds, and the ratio to
        the first file with its 95 % confidence interval.

    Raises:
        FileFormatError: If a file is missing, corrupt, or does not run there.
        MissingDependencyError: If Node, a browser or the npm packages are missing.
        ValueError: If an argument is out of range, or the files' batches differ.

    Example:
        >>> files = ["dense.tflite", "sparse.tflite"]
        >>> measure_wasm_latency(files).files[1].speedup  # doctest: +SKIP
        3.6
    """
    paths = checked_files(files)
    check_rounds(threads=threads, rounds=rounds, runs=runs, warm_up=warm_up)
    contents = [fixed_content(as_path(path))[0] for path in paths]
    with listening(progress) as listen, WasmSession(engine, threads=threads) as session:
        models = {}
        for number, (path, content) in enumerate(zip(paths, contents, strict=True)):
            listen(Progress(stage="Loading", done=number, total=len(paths)))
            models[path] = session.load(content, path)
            models[path].feed(random_inputs(models[path].inputs, seed=0))
        batch = common_batch({path: model.inputs for path, model in models.items()})
        measured = take_turns(
            models, rounds=rounds, warm_up=warm_up, runs=runs, progress=listen
        )
    conditions = LatencyConditions(
        runtime=session.runtime,
        threads=threads,
        batch=batch,
        rounds=rounds,
        warm_up=warm_up,
    )
    return summarize_rounds(conditions, measured)


def fixed_content(path: Path) -> tuple[bytes, bool]:
    """Read a file, with its free sizes made fixed, and say whether it had any."""
    if path.suffix.lower() in (".keras", ".h5", ".hdf5"):
        raise FileFormatError(
            f"{path} is a Keras model, and only .tflite files run in LiteRT.js: write "
            "one with penjing.export_litert(model, 'model.tflite') first."
        )
    content, where = read_litert(path), str(path)
    refuse_packed(content, where)
    if not leaves_sizes_free(load_records(content, where)):
        return content, False
    return specialize(content, where=where), True
