"""What `penjing compress` finds by itself, on tasks that nothing was tuned for.

Every baseline is trained to convergence: until its score on validation data has not
improved for some epochs; that of `mobilenet` is the one of `micro_recipe.py`. Then
`penjing.compress` gets model, data and minutes, nothing else. What is written: the
gzipped file against the zipped float `.h5`, scores on the test data of baseline, dense
control and file, and by how many standard errors (of the difference to the baseline,
paired by sample) the file falls short of the bound below the better of the two. Runs
are kept in `out/benchmarks/budget`, rows in the results, so it can be interrupted. It
needs scikit-learn for some data. Run:

    python benchmarks/budget.py
    python benchmarks/budget.py --tasks digits,diabetes --minutes 3
    python benchmarks/budget.py --tasks cnn --latency-share 0.5 --name budget_latency
    python benchmarks/budget.py --tasks cnn --name budget_micro --budget '{...}'
    python benchmarks/budget.py --tasks digits --hide-validation --name budget-unsplit

With `--latency-share` the time of an inference is bounded too, by a share of that of
the network's int8 file. With `--hide-validation` `compress` gets training and test data
alone, and decides by a part of one of them; the test scores here are those on all test
data nevertheless.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import micro_recipe
import numpy as np
from environment import RESULTS, write_results
from trained_models import MODELS, kept

import penjing
from penjing.data.architectures import build_architecture
from penjing.data.datasets import load_dataset

NAME = "budget"
SPARSE = keras.losses.SparseCategoricalCrossentropy
Data = dict[str, Any]


def fashion(side: int = 28) -> Data:
    data = load_dataset("fashion-mnist")
    border = (side - 28) // 2
    pads = ((0, 0), (border, border), (border, border))
    x, x_test = (
        np.pad(images, pads)[..., None] for images in (data.x_train, data.x_test)
    )
    return {
        "train": (x[:-5000], data.y_train[:-5000]),
        "validation": (x[-5000:], data.y_train[-5000:]),
        "test": (x_test, data.y_test),
    }


def architecture(name: str, side: int = 28) -> Callable[[], keras.Model]:
    return lambda: build_architecture(name, (side, side, 1), seed=0)


def split(x: Any, y: Any, share: float = 0.25) -> Data:
    """Test, validation and training parts; no baseline is trained on the second."""
    order = np.random.default_rng(0).permutation(len(x))
    count = round(share * len(x))
    held_out = count + max((len(x) - count) // 8, 40)
    parts = order[:count], order[count:held_out], order[held_out:]
    names = ("test", "validation", "train")
    return {name: (x[part], y[part]) for name, part in zip(names, parts, strict=True)}


def digits() -> Data:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.data.astype("float32").reshape(-1, 8, 8, 1) / 16
    return split(images, bunch.target)


def digits_model() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def rows() -> Data:
    """Digits as a series of eight rows, for recurrent networks."""
    data = digits()
    return {name: (x.reshape(-1, 8, 8), y) for name, (x, y) in data.items()}


def rows_model() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Bidirectional(layers.GRU(48)),
            layers.Dense(10),
        ]
    )


def diabetes() -> Data:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes()
    return split(
        bunch.data.astype("float32"), bunch.target.astype("float32")[:, None], 0.2
    )


def diabetes_model() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((10,)),
            layers.Normalization(),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(1),
        ]
    )


def words() -> Data:
    """Texts of 40 words, of four kinds that differ in which words go together."""
    rng = np.random.default_rng(0)
    kinds = rng.dirichlet(np.full(400, 0.08), size=(4, 6))
    labels = rng.integers(0, 4, 6000)
    topics = kinds[labels, rng.integers(0, 6, 6000)]
    mixed = 0.35 * topics + 0.65 / 400
    texts = np.stack([rng.choice(400, 40, p=share) for share in mixed]) + 1
    return split(texts.astype("int32"), labels)


def words_model() -> keras.Model:
    layers = keras.layers
    inputs = keras.Input((40,), dtype="int32")
    x = layers.Embedding(401, 32)(inputs)
    x = x + layers.MultiHeadAttention(4, 8)(x, x)
    x = layers.LayerNormalization()(x)
    x = layers.GlobalAveragePooling1D()(layers.Dense(64, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(4)(x))


def tones() -> Data:
    """Spectrograms of chords under noise; the label is the chord."""
    rng = np.random.default_rng(0)
    count = 5000
    labels = rng.integers(0, 8, count)
    time = np.arange(2048) / 8000
    chords = 200 * 2 ** (np.array([[0, 4, 7 + n % 3, n + 3] for n in range(8)]) / 12)
    phases = rng.uniform(0, 2 * np.pi, (count, 4, 1))
    shift = rng.uniform(0.97, 1.03, (count, 1, 1))
    waves = np.sin(2 * np.pi * chords[labels][:, :, None] * shift * time + phases)
    sound = waves.sum(1) + rng.normal(0, 2.0, (count, 2048))
    frames = sound[:, : 2048 // 128 * 128].reshape(count, 16, 128)
    spectra = np.log1p(np.abs(np.fft.rfft(frames))[:, :, :40])
    return split(spectra.astype("float32")[..., None], labels)


def tones_model() -> keras.Model:
    layers = keras.layers
    stack = [keras.Input((16, 40, 1)), layers.Conv2D(32, 3, padding="same")]
    for _ in range(3):
        stack += [layers.BatchNormalization(), layers.ReLU()]
        stack += [layers.DepthwiseConv2D(3, padding="same")]
        stack += [layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(32, 1)]
    return keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(8)])


# Name -> data, model, loss, metric, bars of the ratio.
TASKS: dict[str, tuple[Callable[[], Data], Callable[[], keras.Model], str, float]] = {
    "cnn": (fashion, architecture("cnn"), "accuracy", 30),
    "lenet-300-100": (fashion, architecture("lenet-300-100"), "accuracy", 30),
    "article": (fashion, architecture("article"), "accuracy", 30),
    "digits": (digits, digits_model, "accuracy", 15),
    "series": (rows, rows_model, "accuracy", 15),
    "diabetes": (diabetes, diabetes_model, "mae", 15),
    "text": (words, words_model, "accuracy", 15),
    "audio": (tones, tones_model, "accuracy", 15),
    "mobilenet": (lambda: fashion(32), architecture("mobilenet", 32), "accuracy", 30),
}


def train(build: Callable[[], keras.Model], data: Data, metric: str) -> keras.Model:
    """A network trained until validation data says that it is as good as it gets."""
    keras.utils.set_random_seed(0)
    model = build()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(data["train"][0])
    loss = SPARSE(from_logits=True) if metric == "accuracy" else "mse"
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=[metric])
    x, y = data["train"]
    stop = keras.callbacks.EarlyStopping(
        f"val_{metric}",
        patience=20 if len(x) < 10_000 else 4,
        restore_best_weights=True,
        mode="max" if metric == "accuracy" else "min",
    )
    batch = 32 if len(x) < 10_000 else 128
    model.fit(
        x,
        y,
        batch,
        200,
        validation_data=data["validation"],
        callbacks=[stop],
        verbose=0,
    )
    return model


def right(predictions: Any, labels: Any, metric: str) -> Any:
    """For each sample whether it is right, or its error."""
    if metric == "accuracy":
        return (predictions.argmax(-1) == labels).astype("f8")
    return -np.abs(predictions - labels)[:, 0].astype("f8")


def baseline_of(name: str, data: Data) -> keras.Model:
    _, build, metric, _ = TASKS[name]
    if name == "mobilenet":
        epochs = micro_recipe.BASELINE_EPOCHS[name]
        return micro_recipe.baseline_of(name, 0, epochs, data["train"])
    return kept(f"budget-{name}", lambda: train(build, data, metric))


def row_of(name: str, seconds: float, options: Any) -> dict[str, Any]:
    make, _, metric, _ = TASKS[name]
    data = make()
    model = baseline_of(name, data)
    known = "-unsplit" if options.hide_validation else ""
    out = MODELS / "budget" / f"{name}{known}-{seconds:.0f}-{options.seed}"
    bounds = dict(options.budget)
    if options.latency_share:
        time = options.latency_share * int8_milliseconds(model, data)
        bounds["max_latency"] = f"{time:.4f}ms"
    budget = penjing.Budget(time=f"{seconds}s", **bounds)
    given = {k: v for k, v in data.items() if k != "validation"}
    report = penjing.compress(
        model,
        given if options.hide_validation else data,
        budget=budget,
        out=out,
        seed=options.seed,
        progress=options.progress,
    )
    x, y = data["test"]
    before = right(model.predict(x, verbose=0), y, metric)
    # Of a packed file the plain one: its outputs are equal, and LiteRT runs it.
    after = right(predictions_of(out / "model.tflite", x), y, metric)
    chosen = next(row for row in report.front if row.chosen)
    bound = report.budget
    allowed = abs(bound.baseline - bound.lowest) if bound.lowest is not None else 0.0
    lost = float(before.mean() - after.mean())
    error = float((before - after).std(ddof=1) / math.sqrt(len(y)))
    if not error:  # the file decides as the baseline does: that of its own score
        error = float(after.std(ddof=1) / math.sqrt(len(y)))
    control = report.control.metrics[metric] if report.control else None
    behind = lost
    if control is not None:
        sign = 1 if metric == "accuracy" else -1
        behind = max(lost, sign * control - float(after.mean()))
    return {
        "parameters": report.parameters,
        "metric": metric,
        "baseline": report.before,
        "control": control,
        "file": report.after,
        "met_on_validation": bound.met,
        "lowest": bound.lowest,  # of the scores on validation data that are allowed
        "lost": lost,
        "behind_the_better": behind,
        "allowed": allowed,
        "standard_error": error,
        "beyond_in_errors": max(behind - allowed, 0.0) / error,
        "ratio": report.ratio,
        "gzip": chosen.gzip,
        "raw": chosen.raw,
        "bounds": bounds,
        "latency": chosen.latency,
        "arena": chosen.arena,
        "trials": bound.trials,
        "seconds": bound.seconds,
        "recipe": chosen.description,
    }


def int8_milliseconds(model: keras.Model, data: Data) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.tflite"
        some = data["train"][0][:200]
        penjing.export_litert(model, path, "int8", representative_data=some)
        return penjing.measure_latency(path, progress=False).files[0].milliseconds


def predictions_of(path: Path, x: Any) -> Any:
    file = penjing.LiteRTModel(path)
    return np.concatenate(
        [np.asarray(file.predict(x[n : n + 100])) for n in range(0, len(x), 100)]
    )


def summary_of(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    others = [
        r for name, r in rows.items() if name not in ("cnn", "lenet-300-100", "article")
    ]
    ratios = [row["ratio"] for row in others]
    return {
        "tasks": len(rows),
        "met_on_validation": sum(row["met_on_validation"] for row in rows.values()),
        "beyond_two_errors": [
            name for name, row in rows.items() if row["beyond_in_errors"] > 2
        ],
        "geometric_mean_of_others": math.exp(np.mean(np.log(ratios)))
        if ratios
        else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--minutes", type=float, help="for each; else each task's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default=NAME, help="of the results file")
    parser.add_argument("--budget", type=json.loads, default={}, help="more bounds")
    parser.add_argument("--latency-share", type=float, help="of the int8 file's time")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--hide-validation", action="store_true")
    options = parser.parse_args()
    path = RESULTS / f"{options.name}.json"
    known = json.loads(path.read_text())["tasks"] if path.exists() else {}
    for name in options.tasks.split(","):
        if name in known:
            continue
        seconds = 60 * (options.minutes or TASKS[name][3])
        known[name] = row_of(name, seconds, options)
        print(name, json.dumps(known[name]), flush=True)
        write_results(options.name, {"summary": summary_of(known), "tasks": known})


if __name__ == "__main__":
    main()
