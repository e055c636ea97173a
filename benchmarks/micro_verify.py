"""How long one proof in TensorFlow Lite Micro takes, and what it finds.

For the two MLPerf Tiny networks of the tests, with a batch of 1: the median time of
`penjing.verify(file, "micro")` in a program that runs already, of a program that does
nothing else, and of the command `penjing verify`; and whether Keras or TensorFlow was
loaded on the way. Run: python benchmarks/micro_verify.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from environment import write_results

from penjing.file_verification import verify
from penjing.specializing.specializing import specialize

FOLDER = Path(__file__).resolve().parents[1] / "tests/data/mlperf_tiny"
PROGRAM = (
    "import sys, penjing; penjing.verify(sys.argv[1], 'micro');"
    "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
)


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median over rounds; one before is not counted, as it fills caches."""
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return round(statistics.median(taken[1:]), 3)


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def measured(file: str, rounds: int) -> dict[str, Any]:
    report = verify(file, "micro")
    return {
        "flash": report.micro.flash,
        "arena": report.micro.arena.to_dict(),
        "steps": report.micro.steps,
        "operators": list(report.micro.operators),
        "seconds": {
            "verify": seconds(lambda: verify(file, "micro"), rounds),
            "program": seconds(lambda: run("-c", PROGRAM, file), rounds),
            "command": seconds(
                lambda: run("-m", "penjing", "verify", file, "--runtime", "micro"),
                rounds,
            ),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted(FOLDER.glob("*.tflite")):
            file = Path(folder, source.name)
            file.write_bytes(specialize(source.read_bytes()))
            files[source.stem] = measured(str(file), rounds)
    loaded = sorted({"keras", "tensorflow"} & set(sys.modules))
    write_results("micro_verify", {"files": files, "loaded": loaded})


if __name__ == "__main__":
    main()
