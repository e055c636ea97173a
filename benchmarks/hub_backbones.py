"""What can be done with backbones of keras-hub: small ones, with random weights.

Each is pruned and trained a step, trained on grids a step, cut, and exported in four
modes, where the file runs and must compute what Keras does. Each takes a process of its
own with a limit of time. What is in the results already is not run again: pass --again.
--packages names a folder with keras-hub in it, see `hub_models.py`.
Run: python benchmarks/hub_backbones.py --packages FOLDER [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from environment import RESULTS, write_results
from hub_models import BACKBONES, build, cut_at_random, make_inputs

_NAME = "hub_backbones"
_SPARSITY, _RATIO, _SEED = 0.5, 0.25, 0
_TOLERANCE = 1e-4
_LONGEST = 1500  # characters of a refusal
_MODES = {"float": None, "dynamic": "dynamic", "int8": "int8", "int4": "int4"}


def flat_outputs(model, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    import keras

    given = keras.tree.pack_sequence_as(plain(model).input, list(inputs.values()))
    found = keras.tree.flatten(model(given, training=False))
    return [keras.ops.convert_to_numpy(value) for value in found]


def plain(model):
    """The backbone, also of one in training."""
    return getattr(model, "model", model)


def train(model, inputs: dict[str, np.ndarray]) -> None:
    """One step towards zero on all samples."""
    import keras

    given = keras.tree.pack_sequence_as(plain(model).input, list(inputs.values()))
    wanted = [np.zeros_like(value) for value in flat_outputs(model, inputs)]
    wanted = keras.tree.pack_sequence_as(plain(model).output, wanted)
    loss = keras.tree.map_structure(lambda _: "mse", plain(model).output)
    model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=False)
    model.train_on_batch(given, wanted)


def difference(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest, as a part of the largest value of its output."""
    largest = 0.0
    for mine, other in zip(found, wanted, strict=True):
        apart = np.abs(mine.astype("float64") - other).max()
        largest = max(largest, float(apart / max(np.abs(other).max(), 1e-3)))
    return largest


def prune(model, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Half of the weights, a step, and the plain model."""
    import penjing

    pruned = penjing.prune(model, penjing.ConstantSparsity(_SPARSITY, frequency=1))
    train(pruned, inputs)
    small = penjing.strip(pruned)
    report = penjing.sparsity_report(small)
    check(difference(flat_outputs(small, inputs), flat_outputs(pruned, inputs)))
    return {"sparsity": report.sparsity}


def quantize(model, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Weights on grids of 8 bits, a step, and the plain model."""
    import penjing

    aware = penjing.quantize_aware(model)
    train(aware, inputs)
    small = penjing.strip(aware)
    check(difference(flat_outputs(small, inputs), flat_outputs(aware, inputs)))
    levels = [
        max(len(np.unique(column)) for column in value.reshape(-1, value.shape[-1]).T)
        for value in map(np.asarray, small.get_weights())
        if value.ndim > 1
    ]
    return {"median_levels": int(np.median(levels))}


def cut(model, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Remove random units, and compare with the whole model without what they make."""
    import penjing

    graph, small, silenced = cut_at_random(model, _RATIO)
    check(difference(flat_outputs(small, inputs), flat_outputs(silenced, inputs)))
    pruned = penjing.prune_channels(model, ratio=_RATIO)
    return {
        "parameters": model.count_params(),
        "parameters_after": pruned.count_params(),
        "left_whole": dict(graph.skipped),
    }


def check(found: float) -> None:
    if not found < _TOLERANCE:
        raise AssertionError(f"the outputs differ by {found:.2g}")


def exporter(mode: str | None) -> Callable[..., dict[str, Any]]:
    """A step that exports in a mode, with the comparison of the export."""

    def export(model, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        import penjing

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            samples = list(inputs.values())
            penjing.export_litert(model, path, mode, representative_data=samples)
            found = penjing.LiteRTModel(path).predict(samples)
            found = found if isinstance(found, list) else [found]
            wanted = flat_outputs(model, inputs)
            return {
                "bytes": path.stat().st_size,
                "difference": difference(found, wanted),
            }

    return export


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "prune": prune,
    "quantize_aware": quantize,
    "cut": cut,
    **{name: exporter(mode) for name, mode in _MODES.items()},
}


def work(name: str, steps: list[str]) -> None:
    """Print a line of JSON for each step of one backbone, also where it fails."""
    import penjing

    model = build(name)
    inputs = make_inputs(model)
    for step in steps:
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row = {"good": True, **STEPS[step](model, inputs)}
        except Exception as error:
            kind = type(error).__name__
            refused = isinstance(error, penjing.CompressionError)
            row = {"good": False, "refused": refused, "why": f"{kind}: {error}"}
            row["why"] = row["why"][:_LONGEST]
        row["seconds"] = round(time.perf_counter() - started, 1)
        print(json.dumps({step: row}), flush=True)


def run_worker(name: str, steps: list[str], options: argparse.Namespace) -> dict:
    """The rows that a process of its own gives before it ends, or its time is over."""
    command = [sys.executable, __file__, "--worker", name, "--steps", *steps]
    command += ["--packages", options.packages]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        try:
            code: object = subprocess.run(
                command, stdout=said, stderr=errors, timeout=options.timeout
            ).returncode
        except subprocess.TimeoutExpired:
            code = f"its limit of {options.timeout:.0f} seconds"
        said.seek(0)
        errors.seek(0)
        rows: dict[str, Any] = {}
        for line in said:
            if line.startswith("{"):
                rows.update(json.loads(line))
        if len(rows) < len(steps):
            why = f"the process ended with {code}: {errors.read()[-_LONGEST:]}"
            row = {"good": False, "refused": False, "why": why}
            rows.update({step: row for step in steps if step not in rows})
    return rows


def read_rows() -> dict[str, dict[str, Any]]:
    path = RESULTS / f"{_NAME}.json"
    return json.loads(path.read_text())["backbones"] if path.exists() else {}


def write_rows(rows: dict[str, dict[str, Any]]) -> None:
    ordered = {name: rows[name] for name in BACKBONES if name in rows}
    for name, row in ordered.items():
        ordered[name] = {step: row[step] for step in STEPS if step in row}
    settings = {"sparsity": _SPARSITY, "ratio": _RATIO, "seed": _SEED}
    write_results(_NAME, {**settings, "backbones": ordered})


def main() -> None:
    """Run what is missing, and print a line for each backbone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="backbones; all by default")
    parser.add_argument("--packages", default="", help="folder with keras-hub")
    parser.add_argument("--steps", nargs="*", choices=STEPS, default=list(STEPS))
    parser.add_argument("--again", action="store_true", help="run what is there too")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        sys.path.append(options.packages)
        work(options.names[0], options.steps)
        return
    for name in options.names or BACKBONES:
        done = {} if options.again else read_rows().get(name, {})
        steps = [s for s in options.steps if not done.get(s, {}).get("good")]
        if not steps:
            continue
        found = run_worker(name, steps, options)
        rows = read_rows()
        rows[name] = {**rows.get(name, {}), **found}
        write_rows(rows)
        told = {s: "good" if r["good"] else r["why"] for s, r in found.items()}
        print(name, json.dumps(told, indent=1), flush=True)


if __name__ == "__main__":
    main()
