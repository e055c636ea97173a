"""What all of penjing adds to `import keras`, in seconds and in memory.

`import penjing` loads none of it: that comes with the first name that is used.
Fresh processes in turn; the figures are differences of the medians.
Run: python benchmarks/import_cost.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from environment import write_results

_WHOLE = "penjing.public_names"
_PROGRAM = """
import resource, time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(module: str, backend: str) -> tuple[float, float]:
    finished = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(module=module)],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    seconds, mebibytes = finished.stdout.split()
    return float(seconds), float(mebibytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", default="tensorflow,jax,torch")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    results = {}
    for backend in options.backends.split(","):
        runs: dict[str, list[tuple[float, float]]] = {"keras": [], _WHOLE: []}
        measure(_WHOLE, backend)
        for _ in range(options.rounds):
            for module, values in runs.items():
                values.append(measure(module, backend))
        medians = {
            module: [statistics.median(column) for column in zip(*values, strict=True)]
            for module, values in runs.items()
        }
        results[backend] = {
            "keras_seconds": round(medians["keras"][0], 3),
            "added_seconds": round(medians[_WHOLE][0] - medians["keras"][0], 3),
            "added_mebibytes": round(medians[_WHOLE][1] - medians["keras"][1], 1),
        }
        print(backend, results[backend], flush=True)
    settings = {"rounds": options.rounds}
    print(write_results("import_cost", {"settings": settings, "results": results}))


if __name__ == "__main__":
    main()
