"""How many instructions `.tflite` files take on an ARM processor.

QEMU's times say nothing of a processor's, so what is counted is instructions: a
processor takes more or less time for each, by its caches and its units.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Sequence
from typing import Any

from penjing.arguments import check_counts
from penjing.arm.counting_emulator import QEMU_VARIABLE, counting_session
from penjing.errors import CompressionError
from penjing.json_values import JsonValue
from penjing.measurement.latency_report import common_batch
from penjing.progress import Listener, Progress, listening
from penjing.runtime.file_bounds import refuse_packed
from penjing.runtime.sample_inputs import random_inputs
from penjing.runtime.timing import litert_path
from penjing.runtime.timing_rounds import checked_files
from penjing.specializing import specialize
from penjing.tflite.loading import read_litert


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileInstructions(JsonValue):
    """What one file takes.

    Attributes:
        path: The file.
        bytes: Its size.
        instructions: Instructions of one run: the median over the runs.
        fewer: How many times fewer they are than those of the first file.
    """

    path: str
    bytes: int
    instructions: int
    fewer: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstructionReport(JsonValue):
    """What `count_instructions` found.

    Attributes:
        runtime: What ran the files, as "LiteRT 2.3.0 on cortex-a72 in QEMU".
        threads: Threads of the runtime.
        batch: Samples that one run takes.
        files: A row for each file; the first is the one that others are compared to.
    """

    runtime: str
    threads: int
    batch: int = 1
    files: tuple[FileInstructions, ...]

    def __str__(self) -> str:
        rows = [
            f"  {row.path}: {row.instructions:,} instructions, {row.fewer:.2f}x fewer"
            for row in self.files
        ]
        return "\n".join([self.runtime, *rows])


def count_instructions(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    engine: str = "cortex-a72",
    threads: int = 1,
    runs: int = 3,
    progress: Listener | bool = True,
) -> InstructionReport:
    """Count the instructions that `.tflite` files take on an emulated ARM processor.

    They are not times: how many a processor ends in a millisecond depends on its caches
    and units. Of two files with the same kernels, the one with fewer is faster.

    Args:
        files: The files; the first is the one that others are compared to.
        engine: "cortex-a72" (2016, Raspberry Pi 4), "cortex-a76" (2018, phones,
            Raspberry Pi 5; it has products of int8) or "neoverse-n1" (its sister for
            servers).
        threads: Threads that the runtime may use; all their instructions count.
        runs: Runs that are counted, on random inputs; one before is not.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        For each file the instructions of one run, and how many times fewer they are
        than those of the first. The batch that a file leaves free is 1; other sizes
        may not be free.

    Raises:
        FileFormatError: If a file is missing, corrupt, or does not run there.
        CompressionError: If the emulator's counter stands still.
        MissingDependencyError: If what `penjing setup-arm` fetches, a QEMU with plugins
            or a C compiler is missing.
        ValueError: If an argument is out of range, or the files' batches differ.

    Example:
        >>> files = ["dense.tflite", "sparse.tflite"]
        >>> count_instructions(files).files[1].fewer  # doctest: +SKIP
        3.5
    """
    paths = checked_files(files)
    check_counts(runs=runs, threads=threads)
    contents = [_fixed_content(path) for path in paths]
    counted: list[int] = []
    inputs: dict[str, Sequence[Any]] = {}
    with (
        listening(progress) as listen,
        counting_session(engine, threads) as (session, counter),
    ):
        for number, (path, content) in enumerate(zip(paths, contents, strict=True)):
            listen(Progress(stage="Counting", done=number, total=len(paths)))
            model = session.load(content, path)
            inputs[path] = model.inputs
            batch = common_batch(inputs)
            model.feed(random_inputs(model.inputs, seed=0))
            model.run()
            counted.append(_median(model.count(runs, counter), path))
            model.close()
    rows = [
        FileInstructions(
            path=path,
            bytes=os.stat(path).st_size,
            instructions=count,
            fewer=counted[0] / count,
        )
        for path, count in zip(paths, counted, strict=True)
    ]
    return InstructionReport(
        runtime=session.runtime, threads=threads, batch=batch, files=tuple(rows)
    )


def _fixed_content(path: str) -> bytes:
    content = read_litert(litert_path(path))
    refuse_packed(content, path)
    return specialize(content, where=path)


def _median(counts: Sequence[int], path: str) -> int:
    if min(counts) <= 0:
        raise CompressionError(
            f"The emulator counted no instructions while {path} ran ({list(counts)}): "
            f"its plugin does not count here. Name another QEMU in the variable "
            f"{QEMU_VARIABLE}."
        )
    return round(statistics.median(counts))
