"""Channels removed from every architecture of keras.applications.

Each architecture is built without trained weights for the smallest input it takes, and
its weights are disturbed, so that no statistic or bias is trivial. Random channels are
removed at three ratios; the smaller model must compute what the whole one does with
these channels silenced. At the middle ratio it is exported to .tflite, where it runs.

Each architecture takes a process of its own. What is in the results already is not run
again: delete its entry, or pass --again.
Run: python benchmarks/applications.py --backend tensorflow
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from environment import RESULTS, write_results

_NAME = "applications"
_RATIOS = (0.3, 0.5, 0.7)
_EXPORTED = 0.5
_SIDES = (32, 48, 64, 71, 75, 96, 128, 224)
_SEED, _CLASSES = 0, 10
# Of the largest output. Sums in another order differ by about 1e-7 in each layer, and
# hundreds of layers make more of it.
_TOLERANCE = 1e-3
_BACKENDS = ("tensorflow", "jax", "torch")


def list_architectures() -> list[str]:
    """Every function of keras.applications that builds a model."""
    import keras

    return sorted(
        name
        for name, value in vars(keras.applications).items()
        if name[0].isupper() and callable(value)
    )


def build(name: str):
    """The architecture for the smallest legal input, and that input's side."""
    import keras

    for side in _SIDES:
        try:
            model = getattr(keras.applications, name)(
                weights=None,
                input_shape=(side, side, 3),
                classes=_CLASSES,
                classifier_activation=None,
            )
        except ValueError:
            continue
        return model, side
    raise ValueError(f"{name} takes none of the input sides {_SIDES}")


def disturb(model) -> None:
    """Move every statistic, scale and bias away from what it starts with."""
    from keras import ops

    generator = np.random.default_rng(_SEED)
    for variable in model.weights:
        value = ops.convert_to_numpy(variable.value)
        if "variance" in variable.path:
            value = generator.uniform(0.5, 1.5, value.shape)
        elif value.ndim == 1:
            value = value + 0.1 * generator.normal(size=value.shape)
        else:
            continue
        variable.assign(value.astype("float32"))


def choose(graph, ratio: float) -> dict[str, np.ndarray]:
    """Random units to keep, at least one of what each layer makes and reads."""
    generator = np.random.default_rng([_SEED, int(100 * ratio)])
    kept = {}
    for group in graph.groups:
        if group.reason is not None:
            continue
        mask = generator.random(group.size) >= ratio
        for member in group.members:
            units = member.units[member.units >= 0]
            if not mask[units].any():
                mask[generator.choice(units)] = True
        kept[group.name] = mask
    return kept


def run(model, samples: np.ndarray) -> np.ndarray:
    import keras
    from keras import ops

    if keras.backend.backend() == "jax":  # operation by operation it compiles for ever
        return model.predict_on_batch(samples)
    return ops.convert_to_numpy(model(samples, training=False))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


def measure_ratio(model, graph, ratio: float, samples: np.ndarray, whole) -> dict:
    import penjing

    kept = choose(graph, ratio)
    started = time.perf_counter()
    small = penjing.remove_channels(model, graph, kept)
    seconds = time.perf_counter() - started
    silenced = run(penjing.silence_channels(model, graph, kept), samples)
    found = run(small, samples)
    macs = penjing.count_macs(small)
    row = {
        "error": difference(found, silenced),
        "changed": difference(whole, silenced),
        "seconds": round(seconds, 2),
        "macs": macs.macs,
        "parameters": macs.parameters,
    }
    row["exact"] = bool(np.isfinite(found).all() and row["error"] < _TOLERANCE)
    if ratio == _EXPORTED:
        row.update(measure_file(small, samples, found))
    return row


def measure_file(small, samples: np.ndarray, wanted: np.ndarray) -> dict:
    import penjing

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tflite"
        penjing.export_litert(small, path)
        found = penjing.LiteRTModel(path).predict(samples)
        return {
            "tflite_bytes": path.stat().st_size,
            "tflite_error": difference(np.asarray(found), wanted),
        }


def measure(name: str) -> dict:
    import penjing

    model, side = build(name)
    disturb(model)
    started = time.perf_counter()
    graph = penjing.trace_channels(model)
    seconds = time.perf_counter() - started
    samples = np.random.default_rng(_SEED).uniform(0, 255, (2, side, side, 3))
    samples = samples.astype("float32")
    whole = run(model, samples)
    macs = penjing.count_macs(model)
    return {
        "side": side,
        "graph_seconds": round(seconds, 3),
        "groups": len(graph.groups),
        "groups_left_whole": sum(group.reason is not None for group in graph.groups),
        "macs": macs.macs,
        "parameters": macs.parameters,
        "ratios": {
            str(ratio): measure_ratio(model, graph, ratio, samples, whole)
            for ratio in _RATIOS
        },
    }


def work(name: str) -> None:
    """Print what one architecture gives as JSON, also where it fails."""
    try:
        result = measure(name)
    except Exception as error:
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(result), flush=True)


def run_worker(name: str, backend: str, timeout: float) -> dict:
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, __file__, "--worker", name]
    try:
        finished = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {timeout:.0f} seconds"}
    lines = finished.stdout.splitlines()
    if finished.returncode or not lines:
        return {"failed": f"the process ended with {finished.returncode}"}
    return json.loads(lines[-1])


def is_good(result: dict) -> bool:
    return "failed" not in result and all(
        row["exact"] for row in result["ratios"].values()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    parser.add_argument("--backend", choices=_BACKENDS, default="tensorflow")
    parser.add_argument("--again", action="store_true", help="run what is there too")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for each")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.names)
        return
    path = RESULTS / f"{_NAME}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    rows = results.setdefault("backends", {}).setdefault(arguments.backend, {})
    for name in arguments.names or list_architectures():
        if not arguments.again and is_good(rows.get(name, {"failed": "not run yet"})):
            continue
        rows[name] = run_worker(name, arguments.backend, arguments.timeout)
        print(name, json.dumps(rows[name]), flush=True)
        settings = {"classes": _CLASSES, "seed": _SEED, "tolerance": _TOLERANCE}
        write_results(_NAME, {**settings, "backends": results["backends"]})
    bad = [name for name, row in rows.items() if not is_good(row)]
    print(f"{len(rows) - len(bad)} of {len(rows)} exact; not: {bad}")


if __name__ == "__main__":
    main()
