"""What times from interleaved rounds, measured by any runtime, say about files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penjing.json_values import JsonValue
from penjing.measurement.machine import processor_name
from penjing.runtime.timing import OperatorTime

_RESAMPLES = 2000
_SEED = 0
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileLatency(JsonValue):
    """How long one file takes.

    Attributes:
        path: The file.
        bytes: Its size.
        milliseconds: Median of all runs, for a whole batch.
        lower_quartile: A quarter of the runs took less.
        upper_quartile: A quarter of the runs took more.
        minimum: The fastest run.
        runs: How many runs were measured.
        speedup: Time of the first file over the time of this one: 2.0 is twice as fast.
            Medians of the rounds' medians.
        speedup_low: Lower end of its 95 % confidence interval, by resampling rounds.
        speedup_high: Upper end.
        memory: Bytes by which a process grows at most while it loads the file and runs
            it once; None where nobody tells.
        operators: What its operators take, each timed by itself; empty where that was
            not asked for.
    """

    path: str
    bytes: int
    milliseconds: float
    lower_quartile: float
    upper_quartile: float
    minimum: float
    runs: int
    speedup: float
    speedup_low: float
    speedup_high: float
    memory: int | None = None
    operators: tuple[OperatorTime, ...] = ()

    @property
    def spread(self) -> float:
        """Milliseconds between the quartiles."""
        return self.upper_quartile - self.lower_quartile


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyConditions(JsonValue):
    """Under which conditions files were timed.

    Attributes:
        runtime: Name and version of what ran them, as "LiteRT 2.3.0".
        processor: Name of the processor; that of this machine if not given.
        threads: Threads that the runtime might use.
        batch: Samples in one run.
        cold_caches: Whether other memory was touched before each run.
        rounds: Rounds in which the files took turns.
        warm_up: Rounds before them that were not counted.
    """

    runtime: str
    processor: str = dataclasses.field(default_factory=processor_name)
    threads: int
    batch: int = 1
    cold_caches: bool = False
    rounds: int
    warm_up: int

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        caches = "cold caches" if self.cold_caches else "warm caches"
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        return f"{self.runtime}, {threads}, batch {self.batch}, {caches}, {rounds}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyReport(JsonValue):
    """What `measure_latency` found.

    Attributes:
        conditions: How it was measured.
        files: One row for each file; the first is what the others are compared to.
    """

    conditions: LatencyConditions
    files: tuple[FileLatency, ...]

    def __str__(self) -> str:
        lines = [str(self.conditions)]
        for row in self.files:
            lines.append(
                f"  {row.path}: {row.milliseconds:.4g} ms (quartiles "
                f"{row.lower_quartile:.4g} to {row.upper_quartile:.4g}, minimum "
                f"{row.minimum:.4g}), {row.speedup:.2f}x "
                f"[{row.speedup_low:.2f}, {row.speedup_high:.2f}]"
            )
        return "\n".join(lines)


def summarize_rounds(
    conditions: LatencyConditions,
    rounds: Mapping[str, Sequence[Sequence[float]]],
    *,
    memory: Mapping[str, int | None] | None = None,
    operators: Mapping[str, Sequence[OperatorTime]] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> LatencyReport:
    """Turn times from any runtime into a report.

    Args:
        conditions: How they were measured.
        rounds: Path of each file -> for each round the milliseconds of the runs in it.
            All files have the same rounds, in which they took turns. The first file is
            the one that others are compared to.
        memory: Path -> bytes, see `FileLatency`.
        operators: Path -> times of the operators.
        sizes: Path -> size in bytes; None: those of the files.
    """
    counts = {path: len(blocks) for path, blocks in rounds.items()}
    if len(set(counts.values())) != 1 or not all(
        len(block) for blocks in rounds.values() for block in blocks
    ):
        raise ValueError(
            "Each file needs at least one time in each of the same rounds, got rounds "
            f"{counts}."
        )
    medians = {
        path: np.array([np.median(block) for block in blocks])
        for path, blocks in rounds.items()
    }
    first = next(iter(medians.values()))
    files = []
    for path, blocks in rounds.items():
        times = np.concatenate([np.asarray(block, "f8") for block in blocks])
        lower, middle, upper = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
        speedup, low, high = _speedup(first, medians[path])
        stored = Path(path).stat().st_size if Path(path).is_file() else 0
        files.append(
            FileLatency(
                path=path,
                bytes=stored if sizes is None else sizes[path],
                milliseconds=middle,
                lower_quartile=lower,
                upper_quartile=upper,
                minimum=float(times.min()),
                runs=len(times),
                speedup=speedup,
                speedup_low=low,
                speedup_high=high,
                memory=(memory or {}).get(path),
                operators=tuple((operators or {}).get(path, ())),
            )
        )
    return LatencyReport(conditions=conditions, files=tuple(files))


def _speedup(first: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Ratio of the medians over the rounds, and its interval.

    Rounds are drawn with replacement, for both files the same ones: what slowed a
    whole round cancels out.
    """
    ratio = float(np.median(first) / np.median(other))
    if first is other or len(first) == 1:
        return ratio, ratio, ratio
    draws = np.random.default_rng(_SEED).integers(
        0, len(first), (_RESAMPLES, len(first))
    )
    ratios = np.median(first[draws], axis=1) / np.median(other[draws], axis=1)
    tails = [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]
    low, high = np.quantile(ratios, tails).tolist()
    return ratio, low, high


def common_batch(inputs: Mapping[str, Sequence[Any]]) -> int:
    """The batch of all files: that of the first of each one's inputs, by their shapes.

    A ValueError says that they differ: one run of each is then different work.
    """
    shapes = {path: own[0].shape if own else () for path, own in inputs.items()}
    batches = {path: int(shape[0]) if shape else 1 for path, shape in shapes.items()}
    if len(set(batches.values())) > 1:
        rows = ", ".join(f"{path} has {count}" for path, count in batches.items())
        raise ValueError(
            f"The files have different batches: {rows}. One run of each is compared, "
            "so export the models with the same batch, or with a free one."
        )
    return next(iter(batches.values()), 1)
