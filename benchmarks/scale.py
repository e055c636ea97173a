"""Memory, time and file size of pruning large models, over those of plain training.

A stack of equal Dense layers is trained with Adam on random batches, plain and pruned
in place (`copy=False`), each in a process of its own. Memory is the resident set of the
process, sampled each millisecond, less what it held before the model was made, over the
bytes of the weights. Buffers from 1 MiB on go back to the system at once, as large ones
do anyway. Seconds are those of the processor. Run: python benchmarks/scale.py
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from environment import write_results

WAYS = ("plain", "pruned", "global")
BATCH = 64
FREQUENCY = 4


class MemoryWatch(threading.Thread):
    """Samples the resident set of this process; `peak` is the highest since `reset`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    @staticmethod
    def now() -> int:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def reset(self) -> int:
        """The peak up to now; a new one begins."""
        peak, self.peak = max(self.peak, self.now()), 0
        return peak

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, self.now())
            time.sleep(0.001)


def make_model(width: int, depth: int) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(depth)]
    return keras.Sequential([keras.Input((width,)), *hidden, keras.layers.Dense(10)])


def measure(way: str, width: int, depth: int, steps: int) -> dict[str, Any]:
    import keras
    import numpy as np

    import penjing

    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, width)).astype("float32")
    y = rng.integers(0, 10, BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small = make_model(8, 1)  # what the backend allocates once is no cost of the model
    small.compile("adam", loss)
    small.train_on_batch(x[:, :8], y)
    watch = MemoryWatch()
    watch.start()
    before = watch.now()
    model = make_model(width, depth)
    weights = 4 * model.count_params()
    if way != "plain":
        schedule = penjing.PolynomialDecay(
            final_sparsity=0.9, begin_step=0, end_step=4 * steps, frequency=FREQUENCY
        )
        scope = "global" if way == "global" else "layer"
        model = penjing.prune(model, schedule, scope=scope, copy=False)
    attach = watch.reset() - before
    model.compile("adam", loss)
    seconds: dict[str, list[float]] = {"steps": [], "updates": []}
    peaks: dict[str, list[int]] = {"steps": [], "updates": []}
    for step in range(steps):
        watch.reset()
        start = time.process_time()
        model.train_on_batch(x, y)
        elapsed, peak = time.process_time() - start, watch.reset() - before
        count = 1 if way == "plain" else model.count_steps()
        kind = "steps" if way == "plain" or count % FREQUENCY else "updates"
        if step > FREQUENCY:
            seconds[kind].append(elapsed)
            peaks[kind].append(peak)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        file = path.stat().st_size
    return {
        "weights_bytes": weights,
        "attach": round(attach / weights, 2),
        "file": round(file / weights, 3),
        **{
            f"{kind}_memory": round(max(p) / weights, 2)
            for kind, p in peaks.items()
            if p
        },
        **{f"{kind}_seconds": round(min(s), 4) for kind, s in seconds.items() if s},
    }


def ratios(ways: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What pruning costs, in plain memory, plain steps and plain files."""
    plain = ways["plain"]
    memory, step = plain["steps_memory"], plain["steps_seconds"]
    return {
        way: {
            "memory": round(ways[way]["steps_memory"] / memory, 2),
            "memory_of_update": round(ways[way]["updates_memory"] / memory, 2),
            "step": round(ways[way]["steps_seconds"] / step, 2),
            "update_in_plain_steps": round(
                (ways[way]["updates_seconds"] - ways[way]["steps_seconds"]) / step, 2
            ),
            "file": round(ways[way]["file"] / plain["file"], 3),
        }
        for way in ways
        if way != "plain"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--backends", default="tensorflow,jax,torch")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--steps", type=int, default=17)
    parser.add_argument("--name", default="scale")
    options = parser.parse_args()
    shape = {"width": options.width, "depth": options.depth, "steps": options.steps}
    if options.worker:
        print(json.dumps(measure(options.worker, **shape)))
        return
    results = {}
    for backend in options.backends.split(","):
        ways = {}
        for way in options.ways.split(","):
            arguments = [f"--{name}={value}" for name, value in shape.items()]
            finished = subprocess.run(
                [sys.executable, __file__, f"--worker={way}", *arguments],
                env={
                    **os.environ,
                    "KERAS_BACKEND": backend,
                    "MALLOC_MMAP_THRESHOLD_": str(2**20),
                },
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            ways[way] = json.loads(finished.stdout.splitlines()[-1])
            print(backend, way, ways[way], flush=True)
        results[backend] = {**ways, "over_plain": ratios(ways)}
        print(backend, results[backend]["over_plain"], flush=True)
    print(write_results(options.name, {"settings": shape, "results": results}))


if __name__ == "__main__":
    main()
