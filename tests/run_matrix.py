"""Runs the tests once per Keras backend, each in its own process.

    python tests/run_matrix.py --jobs 2 -- tests/numerics -k masks

Tests marked `once` do not depend on the backend: they run with TensorFlow only, as
parts of their own, so that two processes at a time share the work evenly. The last line
printed is the sum over the backends: `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")
CHECKOUT = Path(__file__).resolve().parents[1]
NO_TESTS_COLLECTED = 5
SHARES = ("1/2", "2/2")  # of the tests marked `once`
# Where `make test` puts LiteRT.js, where it can.
WASM = CHECKOUT / ".venv" / "wasm"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Counts of one pytest process; a crash counts as one failure."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What one pytest process runs."""

    backend: str
    share: str = ""

    def __str__(self) -> str:
        once = f", tests marked once, {self.share}" if self.share else ""
        return f"{self.backend}{once}"


def main() -> int:
    options = parsed_arguments()
    if options.coverage:
        run_coverage("erase")
    outcomes = run_parts(options)
    if options.coverage:
        run_coverage("combine", "--quiet")
        run_coverage("report")
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    skipped = sum(outcome.skipped for outcome in outcomes)
    if not passed and not failed:
        print("No test was executed.")
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if passed and not failed else 1


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS)
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--select", default="", help="marker expression, as for -m")
    parser.add_argument(
        "--minutes", type=float, default=45.0, help="limit for one process"
    )
    parser.add_argument(
        "--coverage", action="store_true", help="say which lines no backend's tests run"
    )
    parser.add_argument("--overlay", help="folder that comes first on the import path")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args()


def run_coverage(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "coverage", *arguments], cwd=CHECKOUT, check=False
    )


def parts_of(options: argparse.Namespace) -> list[Part]:
    """Parts to run, the longest first, so that processes end at about one time."""
    order = ("jax", "tensorflow", "torch")
    parts = [Part(backend=backend) for backend in order if backend in options.backends]
    if "tensorflow" in options.backends and "not once" not in options.select:
        once = [Part(backend="tensorflow", share=share) for share in SHARES]
        return once + parts
    return parts


def run_parts(options: argparse.Namespace) -> list[Outcome]:
    with (
        tempfile.TemporaryDirectory(prefix="penjing-compiled-") as compiled,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        waiting = [
            pool.submit(run_part, part, compiled, options) for part in parts_of(options)
        ]
        return [future.result() for future in waiting]


def run_part(part: Part, compiled: str, options: argparse.Namespace) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penjing-tests-") as folder:
        counts = Path(folder) / "counts.xml"
        environment = environment_for(part.backend, Path(folder), options)
        environment["JAX_COMPILATION_CACHE_DIR"] = compiled
        command = command_for(part, counts, options)
        if options.jobs == 1:
            print(f"== {part}", flush=True)
        code, output = run(command, environment, options)
        outcome = outcome_of(code, counts)
    if options.jobs > 1:
        print(f"== {part}\n{output}", end="")
    seconds = time.monotonic() - start
    print(f"== {part}: exit {code}, {seconds:.0f} s\n", flush=True)
    return outcome


def environment_for(
    backend: str, folder: Path, options: argparse.Namespace
) -> dict[str, str]:
    """The caller's environment with the backend set and nothing personal left."""
    dropped = ("PENJING_", "PYTEST_", "PYTHONPATH", "XLA_FLAGS")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dropped)
    }
    environment = kept | {
        "KERAS_BACKEND": backend,
        "KERAS_HOME": str(folder / "keras"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",  # the same sums in the same order everywhere
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        # Many tests compile the same program: a third of their time on JAX.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "PYTHONHASHSEED": "0",
    }
    if options.jobs > 1:
        environment |= {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    if WASM.is_dir():
        environment["PENJING_WASM_DIR"] = str(WASM)
    if options.overlay:
        environment["PYTHONPATH"] = str(Path(options.overlay).resolve())
    return environment


def command_for(part: Part, counts: Path, options: argparse.Namespace) -> list[str]:
    selections = [f"({options.select})"] if options.select else []
    selections.append("once" if part.share else "not once")
    if part.backend == "jax":
        selections.append("not costly_on_jax")
    measured = ("coverage", "run", "-m") if options.coverage else ()
    return [
        *(sys.executable, "-m", *measured, "pytest", "-q", "-p", "no:cacheprovider"),
        *("--tb=short", "--durations=10", "--durations-min=5"),
        f"--junit-xml={counts}",
        *("-m", " and ".join(selections)),
        *(("--share", part.share) if part.share else ()),
        *options.pytest,
    ]


def run(
    command: list[str], environment: dict[str, str], options: argparse.Namespace
) -> tuple[int, str]:
    """Exit code, and the output where it was not shown as it came."""
    captured = subprocess.PIPE if options.jobs > 1 else None
    try:
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=captured,
            stderr=subprocess.STDOUT if captured else None,
            text=True,
            errors="replace",
            timeout=options.minutes * 60,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        shown = (error.stdout or b"").decode(errors="replace")
        return 124, f"{shown}\nStopped after {options.minutes:g} minutes.\n"
    return done.returncode, done.stdout or ""


def outcome_of(code: int, counts: Path) -> Outcome:
    if not counts.exists():
        return Outcome(failed=1)
    try:
        suites = list(ElementTree.parse(counts).getroot().iter("testsuite"))
    except ElementTree.ParseError:
        return Outcome(failed=1)

    def total(name: str) -> int:
        return sum(int(suite.get(name, 0)) for suite in suites)

    failed = total("failures") + total("errors")
    passed = max(total("tests") - failed - total("skipped"), 0)
    if code not in (0, NO_TESTS_COLLECTED):
        failed = max(failed, 1)
    return Outcome(passed=passed, failed=failed, skipped=total("skipped"))


if __name__ == "__main__":
    sys.exit(main())
