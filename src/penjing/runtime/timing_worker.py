"""Times one `.tflite` file in a process of its own: a script, not a module to import.

It reads one JSON object a line from standard input and answers each with one line. It
imports neither Keras nor penjing: what it weighs is the runtime and the file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_CACHE_BYTES = 64 * 2**20  # More than the caches of one core hold.
_STATUS = Path("/proc/self/status")


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        return
    pages = Path("/proc/self/statm")
    if pages.exists():
        memory += int(pages.read_text().split()[0]) * resource.getpagesize()
    for kind, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY or value < hard:
            resource.setrlimit(kind, (value, hard))


def _peak_memory(name: str = "VmHWM") -> int | None:
    """Bytes resident at most since `_forget_peak`; None where nobody tells."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # Other systems and some containers.
        return


def _describe(detail: Any) -> dict[str, Any]:
    quantization = detail["quantization_parameters"]
    return {
        "name": detail["name"],
        "shape": [int(size) for size in detail["shape"]],
        "signature": [int(size) for size in detail["shape_signature"]],
        "dtype": np.dtype(detail["dtype"]).name,
        "scales": [float(value) for value in quantization["scales"]],
        "zero_points": [int(value) for value in quantization["zero_points"]],
    }


class _Worker:
    def __init__(self, file: str, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        _forget_peak()
        self._before = _peak_memory("VmRSS")
        self._cache: np.ndarray | None = None
        self._interpreter = Interpreter(model_path=file, num_threads=threads)

    def describe(self) -> dict[str, Any]:
        details = self._interpreter.get_input_details()
        return {"inputs": [_describe(detail) for detail in details]}

    def prepare(self, folder: str) -> dict[str, Any]:
        """Give the file its inputs, and weigh it once it has run."""
        details = self._interpreter.get_input_details()
        with np.load(Path(folder) / "inputs.npz") as stored:
            arrays = [stored[name] for name in stored.files]
        for detail, array in zip(details, arrays, strict=True):
            if list(detail["shape"]) != list(array.shape):
                self._interpreter.resize_tensor_input(detail["index"], array.shape)
        self._interpreter.allocate_tensors()
        for detail, array in zip(details, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        after = _peak_memory()
        if self._before is None or after is None:
            return {"memory": None}
        return {"memory": max(0, after - self._before)}

    def time(self, runs: int, cold: bool) -> dict[str, Any]:
        """Run a block; its first run is not counted, for another file ran before."""
        invoke = self._interpreter.invoke
        if cold and self._cache is None:
            self._cache = np.zeros(_CACHE_BYTES // 8)
        if not cold:
            invoke()
        times = []
        for _ in range(runs):
            if self._cache is not None and cold:
                self._cache += 1.0
            start = time.perf_counter_ns()
            invoke()
            times.append(time.perf_counter_ns() - start)
        return {"nanoseconds": times}


def _time_many(job: dict[str, Any]) -> dict[str, Any]:
    """Time small files in turns, all in this process; None for those that fail."""
    from ai_edge_litert.interpreter import Interpreter

    calls: dict[int, Any] = {}
    for number, file in enumerate(job["files"]):
        try:
            interpreter = Interpreter(model_path=file, num_threads=job["threads"])
            interpreter.allocate_tensors()
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(detail["index"], _random(detail))
            interpreter.invoke()
        except (ValueError, RuntimeError, OverflowError, MemoryError):
            continue
        calls[number] = interpreter.invoke
    runs = {}
    for number, call in calls.items():
        taken = max(min(_block(call, 2)), 1)
        runs[number] = int(np.clip(job["nanoseconds"] // taken, 1, 500))
    times: list[float | None] = [None] * len(job["files"])
    rounds = [
        {n: float(np.median(_block(call, runs[n]))) for n, call in calls.items()}
        for _ in range(job["rounds"])
    ]
    for number in calls:
        # Low, not in the middle: what disturbs a round makes it longer, never shorter.
        times[number] = float(np.quantile([taken[number] for taken in rounds], 0.25))
    return {"nanoseconds": times}


def _random(detail: Any) -> Any:
    """Random values: some kernels are faster on zeros. Integers may be positions."""
    generator = np.random.default_rng(0)
    shape, dtype = detail["shape"], np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return generator.normal(size=shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return np.zeros(shape, dtype)


def _block(invoke: Any, runs: int) -> list[int]:
    invoke()
    times = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        invoke()
        times.append(time.perf_counter_ns() - start)
    return times


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the runtime's own words
    job = json.loads(sys.stdin.readline())
    _limit(job["memory"])
    worker: _Worker | None = None
    while True:
        try:
            if "files" in job:
                answer = _time_many(job)
            elif worker is None:
                worker = _Worker(job["file"], job["threads"])
                answer = worker.describe()
            elif "folder" in job:
                answer = worker.prepare(job["folder"])
            else:
                answer = worker.time(job["runs"], job["cold"])
        except (ValueError, RuntimeError, OverflowError, MemoryError) as error:
            answer = {"error": str(error)[:1000] or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        job = json.loads(line)


if __name__ == "__main__":
    _main()
