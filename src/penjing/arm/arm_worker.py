"""Runs many `.tflite` files in one emulated process; see `worker_process`.

It is a script of the Python for ARM, which has NumPy and LiteRT, and no penjing.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np

_LITERT = Path(__file__).parents[1] / "runtime" / "litert_worker.py"


class Worker:
    """Files by names: `open` and `run`, as in `litert_worker`, and `count`."""

    def __init__(self) -> None:
        self._make = runpy.run_path(str(_LITERT))["Worker"]
        self._files: dict[str, Any] = {}

    def start(self) -> dict[str, Any]:
        """Import LiteRT, which takes some seconds."""
        self._make().start()
        return {}

    def open(self, name: str, file: str, threads: int) -> dict[str, Any]:
        """Load a file and describe it."""
        opened = self._make()
        described: dict[str, Any] = opened.open(file, threads)
        self._files[name] = opened
        return described

    def close(self, name: str) -> dict[str, Any]:
        """Forget a file."""
        self._files.pop(name, None)
        return {}

    def run(self, name: str, inputs: list[np.ndarray], most: int) -> dict[str, Any]:
        """Run a file once; outputs beyond `most` bytes are refused."""
        given: dict[str, Any] = self._files[name].run(inputs, most)
        return given

    def count(self, name: str, runs: int, counter: str) -> dict[str, list[int]]:
        """How far a counter goes on in each run, on the inputs of the last `run`.

        `counter` is a file that holds an integer of 64 bits, which the emulator counts
        up. What reading it takes is taken off.
        """
        invoke = self._files[name].invoke
        total = np.memmap(counter, np.uint64, "r", shape=(1,))

        def taken(call: Any) -> int:
            start = int(total[0])
            call()
            return int(total[0]) - start

        idle = min(taken(_nothing) for _ in range(5))
        return {"counts": [taken(invoke) - idle for _ in range(runs)]}


def _nothing() -> None:
    return None
