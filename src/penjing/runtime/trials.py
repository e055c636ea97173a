"""Files of strangers, run where a crash or a hang harms nobody."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.runtime import trial_runner
from penjing.runtime.sample_inputs import encode_rounds, make_rounds

# The kernels that a file runs with: LiteRT's fastest, and the plain ones that it falls
# back on, which are also nearest to those of microcontrollers.
_KERNELS = ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")
_MEMORY = 4 * 2**30
_MEMORY_PER_BYTE = 16
_SECONDS = 60
_BYTES_PER_SECOND = 500_000
# Without the folder of the script in the path: its modules would hide others.
_SCRIPT = ("-P", trial_runner.__file__)

Round = list[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a file gave.

    Attributes:
        description: Its inputs, outputs and signatures, as the runtime sees them, the
            inputs and outputs of each part that a delegate took over, and the
            operators that none took.
        outputs: For each kind of kernels and each round of inputs, one array for each
            output; a text where the file refused the inputs.
    """

    description: dict[str, Any]
    outputs: list[list[list[np.ndarray] | str]]

    @property
    def ran(self) -> bool:
        """Whether it gave outputs for some inputs."""
        return any(isinstance(r, list) for kernels in self.outputs for r in kernels)


def run_file(content: bytes, rounds: Sequence[Round], where: str) -> Outcome:
    """Load a `.tflite` file in a process of its own, and run it on inputs.

    Args:
        content: The file.
        rounds: Inputs, one array each in the stored type, for each run. None of them:
            the file is only loaded.
        where: What the file is called in messages.

    Returns:
        The outcome.

    Raises:
        FileFormatError: If LiteRT cannot load it, crashes, or takes too long or too
            much memory.
    """
    seconds = _SECONDS + len(content) // _BYTES_PER_SECOND
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(content)
        job = {
            "file": str(folder / "model.tflite"),
            "memory": _MEMORY + _MEMORY_PER_BYTE * len(content),
            "seconds": seconds,
            "kernels": _KERNELS,
            "rounds": _write_rounds(folder, rounds),
        }
        (folder / "job.json").write_text(json.dumps(job))
        finished = _run(folder, seconds, where)
        try:
            return _outcome(folder, where)
        except FileFormatError:
            raise
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise FileFormatError(
                f"LiteRT crashes on {where} (exit code {finished}). The file is "
                "damaged, or needs more memory than a trial may take."
            ) from error


def _write_rounds(folder: Path, rounds: Sequence[Round]) -> list[list[str]]:
    names = [[f"{n}_{i}" for i in range(len(r))] for n, r in enumerate(rounds)]
    arrays = {
        name: array
        for keys, values in zip(names, rounds, strict=True)
        for name, array in zip(keys, values, strict=True)
    }
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
    return names


def _run(folder: Path, seconds: int, where: str) -> int:
    paths = [os.path.abspath(entry) for entry in sys.path]
    try:
        return subprocess.run(
            [sys.executable, *_SCRIPT, str(folder)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "OPENBLAS_NUM_THREADS": "1",  # each reserves memory
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # its end is noticed at once; nothing is written
            stderr=subprocess.DEVNULL,
            timeout=2 * seconds,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise FileFormatError(
            f"{where} runs for more than {2 * seconds} seconds on a few samples, so it "
            "cannot be checked. Use `verify=False` if you trust it."
        ) from error


def _outcome(folder: Path, where: str) -> Outcome:
    result = json.loads((folder / "result.json").read_text())
    if "error" in result:
        text = " ".join(str(result["error"]).split())
        raise FileFormatError(
            f"LiteRT cannot run {where}: {text} The file is damaged, or it needs "
            "operations that this runtime does not have."
        )
    with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
        outputs = [
            [r if isinstance(r, str) else [stored[name] for name in r] for r in kernels]
            for kernels in result["outputs"]
        ]
    return Outcome(description=result["description"], outputs=outputs)


def output_difference(
    actual: Outcome, expected: Outcome, order: Sequence[int], *, exact: bool = True
) -> float:
    """Measure how far the outputs of two files are apart.

    Args:
        actual: Outcome of the changed file.
        expected: Outcome of the original, on the same inputs.
        order: For each output of the changed file its place in the original.
        exact: Whether integers that differ count as infinitely far.

    Returns:
        0.0 where all are the same, bit by bit. Else the largest difference over the
        largest magnitude of the output; infinity where shapes, types, refusals,
        integers or not-a-numbers differ.
    """
    worst = 0.0
    for kernels in zip(actual.outputs, expected.outputs, strict=True):
        for mine, other in zip(*kernels, strict=True):
            if isinstance(mine, str) or isinstance(other, str):
                worst = max(worst, 0.0 if type(mine) is type(other) else float("inf"))
                continue
            pairs = zip(mine, (other[n] for n in order), strict=True)
            worst = max([worst, *(_difference(*pair, exact) for pair in pairs)])
    return worst


def as_fast(actual: Outcome, expected: Outcome) -> bool:
    """Whether delegates take over the same parts of a changed file, or more.

    Args:
        actual: Outcome of the changed file.
        expected: Outcome of the original.

    Returns:
        Whether the parts have as many inputs and outputs as before; or there are no
        more parts, and none but operators that were left over before still are.
    """
    parts, parts_before = (o.description["delegated"] for o in (actual, expected))
    if parts == parts_before:
        return True
    left, left_before = (
        Counter(o.description["left_over"]) for o in (actual, expected)
    )
    return len(parts) <= len(parts_before) and left <= left_before


def _difference(mine: np.ndarray, other: np.ndarray, exact: bool) -> float:
    if mine.shape != other.shape or mine.dtype != other.dtype:
        return float("inf")
    if mine.tobytes() == other.tobytes():
        return 0.0
    if mine.dtype.kind != "f" and (exact or mine.dtype.kind not in "iu"):
        return float("inf")
    a, b = mine.astype("f8"), other.astype("f8")
    special = ~np.isfinite(b)
    if not np.array_equal(a[special], b[special], equal_nan=True):
        return float("inf")
    a, b = a[~special], b[~special]
    scale = float(np.abs(b).max(initial=0.0))
    largest = float(np.abs(a - b).max(initial=0.0))
    return largest / scale if scale else (float("inf") if largest else 0.0)


class Trial:
    """The original file's outcome, to which changed files are compared.

    Args:
        content: The original file.
        where: What it is called in messages.
        data: The user's real inputs, or None.

    Raises:
        FileFormatError: If it does not run.
        DataError: If no samples can be made, or the data does not fit.
    """

    def __init__(self, content: bytes, where: str, data: Any = None) -> None:
        self._where = where
        inputs = run_file(content, [], where).description["inputs"]
        real = [] if data is None else encode_rounds(inputs, data, where)
        for free in (True, False):
            self._rounds = [*make_rounds(inputs, free=free), *real]
            try:
                self._expected = run_file(content, self._rounds, where)
            except FileFormatError:
                if not free:
                    raise
                continue
            if self._expected.ran:
                return
        raise FileFormatError(
            f"{where} does not run on any of the samples made for it, so changes "
            "cannot be checked. Pass `representative_data` that it takes, or "
            "verify=False: only steps that cannot change the outputs are taken then."
        )

    def difference(
        self,
        content: bytes,
        order: Sequence[int] | None = None,
        *,
        same_speed: bool = True,
    ) -> float:
        """How far the outputs of a changed file are from the original's.

        Args:
            content: The changed file.
            order: For each of its outputs the place in the original; None: the same.
            same_speed: Whether delegates must take over the same parts. Without it
                integers that differ count as numbers: kernels round differently.

        Returns:
            As `output_difference`; infinity where the file does not run.
        """
        try:
            actual = run_file(content, self._rounds, self._where)
        except FileFormatError:
            return float("inf")
        count = len(self._expected.description["outputs"])
        if same_speed and not as_fast(actual, self._expected):
            return float("inf")
        return output_difference(
            actual, self._expected, order or range(count), exact=same_speed
        )
