"""Files that take turns: how anything is timed so that it can be compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from penjing.progress import Listener, Progress

_BLOCK_MILLISECONDS = 20.0
_MOST_RUNS = 200
_MOST_COLD_RUNS = 5  # Touching the memory takes about as long as a whole block.


class Timed(Protocol):
    """Something that runs a block and times each run in it."""

    def run(self, runs: int, *, cold_caches: bool = False) -> list[float]:
        """Run a block; gives milliseconds."""


def take_turns(
    files: Sequence[Timed],
    blocks: Sequence[int],
    rounds: int,
    warm_up: int,
    cold_caches: bool,
    progress: Listener,
) -> list[list[list[float]]]:
    """Let files run in rounds; who begins changes with every round.

    Args:
        files: What is timed.
        blocks: For each file the runs in a round.
        rounds: Rounds that are measured.
        warm_up: Rounds before those, not counted.
        cold_caches: Whether to touch other memory before each run.
        progress: Is told the rounds that are done.

    Returns:
        For each file and round the milliseconds of each run.
    """
    measured: list[list[list[float]]] = [[] for _ in files]
    for number in range(-warm_up, rounds):
        progress(Progress(stage="Timing", done=max(number, 0), total=rounds))
        for turn in range(len(files)):
            place = (turn + number) % len(files)
            times = files[place].run(blocks[place], cold_caches=cold_caches)
            if number >= 0:
                measured[place].append(times)
    progress(Progress(stage="Timing", done=rounds, total=rounds))
    return measured


def fitting_runs(file: Timed, cold_caches: bool) -> int:
    """How many runs make a block of about the time that it should take."""
    taken = float(np.median(file.run(5, cold_caches=cold_caches)))
    most = _MOST_COLD_RUNS if cold_caches else _MOST_RUNS
    return int(np.clip(_BLOCK_MILLISECONDS / max(taken, 1e-3), 1, most))


def checked_files(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str]:
    """Give the paths of files to compare.

    Raises:
        ValueError: If there is none, or one is named twice.
    """
    if isinstance(files, str | os.PathLike):
        files = [files]
    paths = [os.fspath(file) for file in files]
    if not paths:
        raise ValueError("`files` must name at least one .tflite file, got none.")
    if len(set(paths)) != len(paths):
        raise ValueError(
            f"`files` names a file twice: {paths}. Copy it under another name to "
            "compare it to itself."
        )
    return paths


def check_counts(**counts: int | None) -> None:
    """Refuse numbers below 1; `runs` may be None.

    Raises:
        ValueError: If there is one.
    """
    for name, value in counts.items():
        if name == "runs" and value is None:
            continue
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be 1 or more, got {value!r}.")
