"""Damaged and hostile files of every kind, through every command that reads them.

Each file is made from a sound one, by its number: bytes, numbers and names are changed,
parts are cut, doubled, swapped or made to unpack to gigabytes. Batches run in a process
of their own, which tells for each file how it ended, how long it took and the memory of
its processes; one that crashes or hangs is noted, and the batch goes on behind it.
Wanted: no crash, no error but penjing's, none over 2 GB or 30 seconds, nothing left.
Run: python benchmarks/hostile_files.py [--files 5000] [--kinds tflite npz ...]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from environment import write_results
from hostile_content import KINDS, make_file, make_sound_files

SHARES = {
    "tflite": 40,
    "keras": 18,
    "h5": 10,
    "npz": 14,
    "images": 3,
    "recipe": 8,
    "json": 4,
    "request": 4,
}
MOST_SECONDS, MOST_MEMORY = 30.0, 2e9
_PATIENCE = 120.0
_BATCH = 150


def run_all(files: int, kinds: list[str], seed: int) -> dict[str, Any]:
    """Run everything; gives what `write_results` takes."""
    total = sum(SHARES[kind] for kind in kinds)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "sound")
        sound.mkdir()
        make_sound_files(sound)
        for kind in kinds:
            count = max(round(files * SHARES[kind] / total), 1)
            for start in range(0, count, _BATCH):
                numbers = range(start, min(start + _BATCH, count))
                rows += _run_batch(kind, numbers, seed, Path(folder))
            _say(kind, [row for row in rows if row["kind"] == kind])
    return _summary(rows)


def _run_batch(
    kind: str, numbers: range, seed: int, folder: Path
) -> list[dict[str, Any]]:
    """Rows of a batch; a file that ends its process is followed by a new process."""
    rows: list[dict[str, Any]] = []
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    while len(rows) < len(numbers):
        left = numbers[len(rows) :]
        command = [sys.executable, __file__, "--batch", kind, str(left.start)]
        command += [str(left.stop), str(seed), str(folder / "sound")]
        environment = {**os.environ, "TMPDIR": str(temporary), "PENJING_DEBUG": "1"}
        begin = len(rows)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            for line in _lines_of(process):
                rows.append(json.loads(line))
        if process.returncode and len(rows) < len(numbers):
            number = numbers[len(rows)]
            rows.append(_row(kind, number, "crash", f"exit code {process.returncode}"))
        elif len(rows) == begin:
            raise RuntimeError(f"The batch of {kind} from {left.start} did nothing.")
    left_over = sorted(path.name for path in temporary.iterdir())
    if left_over:
        rows[-1]["left"] = left_over[:5]
    return rows


def _lines_of(process: subprocess.Popen[str]) -> Any:
    """Lines as they come; a process that says nothing for long is ended."""
    alarm = None
    assert process.stdout is not None
    while True:
        alarm = threading.Timer(_PATIENCE, process.kill)
        alarm.start()
        line = process.stdout.readline()
        alarm.cancel()
        if not line:
            process.wait()
            return
        if line.startswith("{"):
            yield line


def _row(kind: str, number: int, outcome: str, error: str = "") -> dict[str, Any]:
    row = {"kind": kind, "number": number, "outcome": outcome, "error": error}
    return row | {"seconds": 0.0, "memory": 0}


def run_batch(kind: str, start: int, stop: int, seed: int, sound: Path) -> None:
    """In a process of its own: make and try each file, and print a row for it."""
    prepare, act = KINDS[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        state = prepare(sound)
    for number in range(start, stop):
        chance = random.Random(f"{seed} {kind} {number}")
        with tempfile.TemporaryDirectory() as folder:
            path = make_file(kind, sound, Path(folder), chance)
            before = _contents(Path(folder))
            watch = _Watch()
            outcome, error = _tried(act, state, path, chance)
            row = _row(kind, number, outcome, error) | watch.stop()
            new = _contents(Path(folder)) - before
            if new:
                row["left"] = sorted(new)[:5]
        sys.__stdout__.write(json.dumps(row) + "\n")
        sys.__stdout__.flush()


def _tried(act: Any, state: Any, path: Path, chance: random.Random) -> tuple[str, str]:
    from penjing.errors import CompressionError

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = act(state, path, chance)
    except CompressionError as error:
        return "refused", type(error).__name__
    except BaseException as error:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = (
            f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}" if frame else ""
        )
        return "unforeseen", f"{type(error).__name__}: {str(error)[:200]} ({where})"
    if "Traceback (most" in said.getvalue():
        return "unforeseen", said.getvalue()[-300:]
    return ("refused" if code else "read"), ""


def _contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class _Watch:
    """Seconds, and the most memory that this process and its children grew to."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(OSError):
                    for child in (task / "children").read_text().split():
                        self._most = max(self._most, _peak(child))

    def stop(self) -> dict[str, Any]:
        self._done.set()
        self._thread.join()
        most = max(self._most, _peak("self"))
        return {"seconds": round(time.monotonic() - self._begin, 2), "memory": most}


def _peak(process: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    bad = [row for row in rows if row["outcome"] in ("crash", "unforeseen")]
    heavy = [
        row
        for row in rows
        if row["seconds"] > MOST_SECONDS or row["memory"] > MOST_MEMORY
    ]
    by_kind = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        by_kind[kind] = {
            "files": len(own),
            "outcomes": dict(Counter(row["outcome"] for row in own)),
            "most_seconds": max(row["seconds"] for row in own),
            "most_megabytes": max(row["memory"] for row in own) // 10**6,
        }
    return {
        "files": len(rows),
        "kinds": by_kind,
        "crashes_and_unforeseen": bad[:50],
        "over_the_limits": heavy[:50],
        "left_behind": [row for row in rows if "left" in row][:50],
    }


def _say(kind: str, rows: list[dict[str, Any]]) -> None:
    print(json.dumps(_summary(rows), indent=1)[:6000], flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--kinds", nargs="*", default=list(SHARES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", nargs=5, metavar="X", help=argparse.SUPPRESS)
    parser.add_argument("--out", default="hostile_files")
    given = parser.parse_args()
    if given.batch:
        kind, start, stop, seed, sound = given.batch
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        run_batch(kind, int(start), int(stop), int(seed), Path(sound))
        sys.__stdout__.flush()
        return
    results = run_all(given.files, given.kinds, given.seed)
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    write_results(given.out, {"backend": backend, **results})


if __name__ == "__main__":
    main()
