"""Searches, killed at random: do they end with the front of one that was not?

A command that searches is killed with SIGKILL, it and all that it started, one to five
times at random moments, and is then let end. Files, recipes and the rows of the front
are compared with those of a run that was not killed, of each row all but times. No
trial may be done anew: what a finished one wrote must still be there as it was.

By default a small network is compressed, on a few of the bundled images. Another
command is given after `--`, with `{out}` in place of its folder. What is known is kept
in `--folder`: run it again for more kills.
Run: python benchmarks/search_kills.py --kills 20
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from environment import write_results

_TRIALS = 2  # trainings; others are of no training, controls and short ones
_TIMES = ("latency", "seconds", "milliseconds")
_KEPT = ("*.tflite", "*.keras", "*.toml")


def make_inputs(folder: Path) -> list[str]:
    """Write a small model and data, once; gives the command that compresses it."""
    if not (folder / "model.keras").is_file():
        write_inputs(folder)
    words = ["compress", str(folder / "model.keras"), "--data"]
    words += [str(folder / "data.npz"), "--trials", str(_TRIALS)]
    return [sys.executable, "-m", "penjing", *words, "--out", "{out}"]


def write_inputs(folder: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np

    from penjing.data.datasets import load_dataset

    keras.utils.set_random_seed(0)
    data = load_dataset("fashion-mnist-small")
    x = data.x_train[:600, ::4, ::4].reshape(600, -1)
    y = data.y_train[:600]
    np.savez(
        folder / "data.npz",
        **{"x_train": x[:400], "y_train": y[:400]},
        **{"x_test": x[400:], "y_test": y[400:]},
    )
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.Dense(10, name="logits"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x[:400], y[:400], epochs=30, verbose=0)
    model.save(folder / "model.keras")


def run_command(command: list[str], out: Path, seconds: float | None) -> int | None:
    """Run the command; None where it was killed after some seconds."""
    words = [word.replace("{out}", str(out)) for word in command]
    with open(out.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, start_new_session=True
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def finished_trials(out: Path) -> dict[str, list[Any]]:
    """What tells the outcome of each finished trial from one that is written anew."""
    found = {}
    for path in sorted(out.glob(".state/search/*/outcome.json")):
        there = path.stat()
        found[path.parent.name] = [there.st_ino, there.st_mtime_ns, there.st_size]
    return found


def front_of(out: Path) -> dict[str, Any]:
    """The front without times, and digests of all files and recipes."""
    report = out / "report.json"
    if not report.is_file():
        return {}
    rows = json.loads(report.read_text())["front"]
    digests = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in _KEPT
        for path in sorted(out.rglob(pattern))
        if ".state" not in path.parts
    }
    trials = len(list(out.glob(".state/search/*/outcome.json")))
    return {"rows": without_times(rows), "digests": digests, "trials": trials}


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _TIMES}
        return {key: without_times(item) for key, item in kept.items()}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def whole_run(command: list[str], folder: Path) -> dict[str, Any]:
    """The run that is not killed, once for all calls of this script."""
    known = folder / "whole.json"
    if known.is_file():
        return dict(json.loads(known.read_text()))
    out, begin = folder / "whole", time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    code = run_command(command, out, None)
    if code not in (0, 3):
        sys.exit(out.with_suffix(".log").read_text()[-3000:])
    seconds = round(time.monotonic() - begin, 1)
    whole = {"code": code, "seconds": seconds, **front_of(out)}
    known.write_text(json.dumps(whole, indent=1))
    return whole


def killed_run(
    command: list[str], folder: Path, whole: dict[str, Any], kills: int, chance: Any
) -> dict[str, Any]:
    """Kill a run some times, let it end, and say what is other than it should be."""
    out = folder / "killed"
    shutil.rmtree(out, ignore_errors=True)
    before: dict[str, list[Any]] = {}
    done, again = [], set()
    while True:
        last = len(done) == kills
        seconds = None if last else chance.uniform(0, 0.4 * whole["seconds"])
        code = run_command(command, out, seconds)
        now = finished_trials(out)
        again |= {name for name, was in before.items() if now.get(name) != was}
        before = now
        if code is not None:  # it may end before it is killed
            break
        done.append(round(seconds or 0.0, 2))
    found = {"code": code, **front_of(out)}
    parts = [part for part in found if found[part] != whole[part]]
    both = [run.get("digests", {}) for run in (found, whole)]
    files = [n for n in {**both[0], **both[1]} if both[0].get(n) != both[1].get(n)]
    if parts:
        shutil.copytree(out, folder / f"differs-{time.time():.0f}")
    return {
        "kills": done,
        "trials_done_again": sorted(again),
        "different": parts,
        "files": sorted(files),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("search-kills"))
    parser.add_argument("--minutes", type=float, default=8.0, help="Then it ends.")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.absolute()
    command = options.command or make_inputs(folder)
    whole = whole_run(command, folder)
    known = folder / "runs.json"
    runs = json.loads(known.read_text()) if known.is_file() else []
    chance = random.Random(f"{options.seed} {len(runs)}")
    while sum(len(run["kills"]) for run in runs) < options.kills:
        if time.monotonic() > end:
            break
        left = options.kills - sum(len(run["kills"]) for run in runs)
        kills = min(left, chance.randint(1, 5))
        runs.append(killed_run(command, folder, whole, kills, chance))
        known.write_text(json.dumps(runs, indent=1))
        print(runs[-1], file=sys.stderr, flush=True)
    results = {
        "command": [Path(word).name for word in command],
        "seconds_without_kills": whole["seconds"],
        "trials": whole["trials"],
        "files": len(whole["digests"]),
        "kills": sum(len(run["kills"]) for run in runs),
        "runs": len(runs),
        "runs_that_differ": [run for run in runs if run["different"]],
        "trials_done_again": sum(len(run["trials_done_again"]) for run in runs),
    }
    print(write_results("search_kills", results))
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
