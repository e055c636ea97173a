"""Bytes of the runnable file itself, not compressed: int4 and sparse encoding.

The CNN of 421,642 parameters is trained on the full Fashion-MNIST, pruned to 97 % zeros
and trained on, for an epoch each: bytes depend on the zeros alone, and accuracies
show that each file works. Each file is compared with the Keras model it was made of.
The time to load a file, with the first image, that of an image afterwards, and the
memory by which the process grows are medians of five processes, on one thread.
Run: python benchmarks/raw_size.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from environment import write_results

SPARSITY = 0.97
MODES = ("float32", "dynamic", "int8", "int4", "int4_weight_only", "int8x4")
_ROUNDS = 5
_SCRIPT = """
import json, resource, sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def run(interpreter):
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.ones(detail["shape"], "float32"))
    interpreter.invoke()

before, start = resident(), time.perf_counter()
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
run(interpreter)
load, grown = time.perf_counter() - start, resident() - before
times = []
for _ in range(100):
    start = time.perf_counter()
    run(interpreter)
    times.append(time.perf_counter() - start)
print(json.dumps({"load_ms": 1e3 * load, "image_us": 1e6 * sorted(times)[50],
                  "memory_kib": grown / 1024}))
"""


def train(epochs: int, seed: int, data: tuple):
    """The dense model, and the same pruned and trained on."""
    import keras

    import penjing
    from penjing.data.architectures import build_architecture

    x, y = data
    keras.utils.set_random_seed(seed)
    model = build_architecture("cnn", seed=seed)
    arguments = {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }
    model.compile(keras.optimizers.Adam(1e-3), **arguments)
    model.fit(x, y, 128, epochs, verbose=2)
    pruned = penjing.prune(model, penjing.OneShot(SPARSITY), scope="global")
    pruned.compile(keras.optimizers.Adam(2e-3), **arguments)
    pruned.fit(x, y, 128, epochs, verbose=2)
    return model, penjing.strip(pruned)


def measure_process(path: Path) -> dict:
    command = [sys.executable, "-c", _SCRIPT, str(path)]
    rounds = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for _ in range(_ROUNDS)
    ]
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def measure(path: Path, expected, test: tuple, reference: int) -> dict:
    import penjing
    from penjing.export.verification import output_error

    sizes = penjing.measure_size(path)
    row = {
        "raw": sizes.raw,
        "gzip": sizes.gzip,
        "smaller": reference / sizes.raw,
        "accuracy": penjing.evaluate(path, *test)["accuracy"],
        "error": output_error(penjing.LiteRTModel(path).predict(test[0]), expected),
        **measure_process(path),
    }
    print(path.name, row, flush=True)
    return row


def measure_files(model, pruned, samples, test: tuple, folder: Path) -> dict:
    import penjing

    expected = pruned.predict(test[0], verbose=0)
    baseline = penjing.export_litert(model, folder / "baseline.tflite")
    reference = baseline.stat().st_size
    dense = model.predict(test[0], verbose=0)
    rows = {"baseline": measure(baseline, dense, test, reference)}
    for mode in MODES:
        quantization = None if mode == "float32" else mode
        path = penjing.export_litert(
            pruned,
            folder / f"{mode}.tflite",
            quantization,
            representative_data=samples,
        )
        rows[mode] = measure(path, expected, test, reference)
        out = folder / f"{mode}-sparse.tflite"
        penjing.shrink_litert(
            path, out, encoding="sparse", representative_data=samples[:20]
        )
        rows[f"{mode}, sparse"] = measure(out, expected, test, reference)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from penjing.data.datasets import load_dataset

    data = load_dataset("fashion-mnist")
    x, y = data.x_train[: options.images], data.y_train[: options.images]
    model, pruned = train(options.epochs, options.seed, (x, y))
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_files(
            model, pruned, x[:500], (data.x_test, data.y_test), Path(folder)
        )
    results = {"sparsity": SPARSITY, **vars(options), "files": rows}
    print(write_results("raw_size", results))


if __name__ == "__main__":
    main()
