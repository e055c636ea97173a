"""What it wins to take dead units out of a file: bytes and milliseconds.

A LeNet-300-100 is trained with the packaged recipe `smallest` (10 epochs) on the full
Fashion-MNIST, exported in float32 and with int8 weights, and finished. Each finished
file runs beside the one it was made from: one thread, one image at a time, in turns.
Run: python benchmarks/dead_units.py
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from environment import write_results

_ARCHITECTURE, _SEED = "lenet-300-100", 0
_BASELINE_EPOCHS, _EPOCHS = 2, 10
_TURNS, _RUNS = 60, 200


def train(data):
    import keras

    import penjing
    from penjing.data.architectures import build_architecture
    from penjing.pipeline import load_recipe, run_recipe

    keras.utils.set_random_seed(_SEED)
    baseline = build_architecture(_ARCHITECTURE, seed=_SEED)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    baseline.compile("adam", loss, metrics=["accuracy"])
    arrays = data.x_train, data.y_train
    baseline.fit(*arrays, batch_size=128, epochs=_BASELINE_EPOCHS, verbose=0)
    recipe = load_recipe("smallest")
    training = dataclasses.replace(recipe.training, epochs=_EPOCHS, minimum_steps=0)
    recipe = dataclasses.replace(recipe, training=training)
    return penjing.strip(run_recipe(baseline, arrays, recipe, seed=_SEED))


def load(path: Path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (item,) = interpreter.get_input_details()
    shape = [1, *item["shape"][1:]]
    interpreter.set_tensor(item["index"], np.random.rand(*shape).astype("float32"))
    return interpreter


def microseconds(paths: list[Path]) -> list[float]:
    """Median over the turns, in which the files run one after the other."""
    interpreters = [load(path) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for _ in range(_TURNS):
        for interpreter, found in zip(interpreters, times, strict=True):
            begin = time.perf_counter()
            for _ in range(_RUNS):
                interpreter.invoke()
            found.append((time.perf_counter() - begin) / _RUNS * 1e6)
    return [statistics.median(found) for found in times]


def measure(model, quantization, data, folder: Path) -> dict:
    import penjing

    path, out = folder / "before.tflite", folder / "after.tflite"
    penjing.export_litert(model, path, quantization)
    report = penjing.shrink_litert(
        path, out, representative_data=data.x_train[:500], bias_bits="auto"
    )
    print(report, flush=True)
    step = next(step for step in report.steps if step.name == "dead units")
    before, after = microseconds([path, out])
    accuracies = [
        penjing.evaluate(file, data.x_test, data.y_test)["accuracy"]
        for file in (path, out)
    ]
    return {
        "raw": [report.raw_before, report.raw_after],
        "gzip": [report.gzip_before, report.gzip_after],
        "units": step.note,
        "raw_of_the_step": step.raw,
        "gzip_of_the_step": step.gzip,
        "microseconds": [round(before, 2), round(after, 2)],
        "faster": round(before / after, 2),
        "accuracy": accuracies,
        "difference": report.difference,
    }


def main() -> None:
    from penjing.data.datasets import load_dataset

    data = load_dataset("fashion-mnist")
    model = train(data)
    results: dict = {"model": _ARCHITECTURE, "seed": _SEED, "epochs": _EPOCHS}
    with tempfile.TemporaryDirectory() as name:
        for quantization in (None, "dynamic"):
            row = measure(model, quantization, data, Path(name))
            results[quantization or "float32"] = row
            print(row, flush=True)
    print(write_results("dead_units", results))


if __name__ == "__main__":
    main()
