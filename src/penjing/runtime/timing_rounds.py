"""Files that take turns: how anything is timed so that it can be compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from penjing.arguments import check_counts
from penjing.progress import Listener, Progress, ignore_progress

_BLOCK_MILLISECONDS = 20.0
_MOST_RUNS = 200
_MOST_COLD_RUNS = 5  # Touching the memory takes about as long as a whole block.


class Timed(Protocol):
    """Something that runs a block and times each run in it."""

    def time(self, runs: int, *, cold_caches: bool = False) -> list[float]:
        """Run a block; gives milliseconds."""


def take_turns(
    files: Mapping[str, Timed],
    *,
    rounds: int,
    warm_up: int,
    runs: int | None = None,
    cold_caches: bool = False,
    progress: Listener = ignore_progress,
) -> dict[str, list[list[float]]]:
    """Let files run in rounds; who begins changes with every round.

    Gives for each file and round the milliseconds of each run. There are `runs` in a
    round, by default as many as fit into about 20 milliseconds; `warm_up` rounds come
    first and are not counted; `cold_caches` touches other memory before each run.
    """
    names = list(files)
    blocks = {name: runs or _fitting_runs(files[name], cold_caches) for name in names}
    measured: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        progress(Progress(stage="Timing", done=max(number, 0), total=rounds))
        for turn in range(len(names)):
            name = names[(turn + number) % len(names)]
            times = files[name].time(blocks[name], cold_caches=cold_caches)
            if number >= 0:
                measured[name].append(times)
    progress(Progress(stage="Timing", done=rounds, total=rounds))
    return measured


def _fitting_runs(file: Timed, cold_caches: bool) -> int:
    taken = float(np.median(file.time(5, cold_caches=cold_caches)))
    most = _MOST_COLD_RUNS if cold_caches else _MOST_RUNS
    return int(np.clip(_BLOCK_MILLISECONDS / max(taken, 1e-3), 1, most))


def checked_files(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str]:
    """Give the paths of files to compare; a ValueError if none or one named twice."""
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


def check_rounds(*, rounds: int, runs: int | None, warm_up: int, **counts: int) -> None:
    """Refuse numbers of rounds, runs and other counts that are out of range."""
    given = {} if runs is None else {"runs": runs}
    check_counts(rounds=rounds, **given, **counts)
    if not isinstance(warm_up, int) or warm_up < 0:
        raise ValueError(f"`warm_up` must be 0 or more rounds, got {warm_up!r}.")
