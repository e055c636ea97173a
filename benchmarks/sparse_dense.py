"""What zeros buy in dense layers on x86: four layers of 1,024 units in blocks of 1x4.

Each model is pruned with `pattern=penjing.Block(4, 1)`, four inputs of one output, and
exported as float32 twice: dense, and with `encoding="sparse", runtime="x86"`. Both take
turns, at a batch of 1 with one thread, warm and with cold caches. Read the ratios.
Run, on a machine that does nothing else:

    python benchmarks/sparse_dense.py --rounds 60
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results

import penjing

WIDTH = 1024
LAYERS = 4
SPARSITIES = (0.8, 0.9, 0.95)


def pruned_model(sparsity: float, seed: int) -> keras.Model:
    """Random layers, pruned in blocks by penjing itself."""
    layers = [
        keras.layers.Dense(
            WIDTH,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(seed=seed + number),
        )
        for number in range(LAYERS)
    ]
    model = keras.Sequential([keras.Input((WIDTH,)), *layers])
    pruned = penjing.prune(
        model, penjing.ConstantSparsity(sparsity), pattern=penjing.Block(4, 1)
    )
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    rows = np.zeros((2, WIDTH), "float32")
    pruned.fit(rows, rows, verbose=0)
    return penjing.strip(pruned)


def largest_difference(dense: Path, sparse: Path, seed: int) -> float:
    rows = np.random.default_rng(seed).normal(size=(64, WIDTH)).astype("float32")
    outputs = [penjing.LiteRTModel(path).predict(rows) for path in (dense, sparse)]
    scale = np.abs(outputs[0]).max()
    return float(np.abs(outputs[0] - outputs[1]).max() / scale)


def measure(sparsity: float, folder: Path, options: argparse.Namespace) -> dict:
    model = pruned_model(sparsity, options.seed)
    dense = penjing.export_litert(model, folder / f"dense_{sparsity}.tflite")
    sparse = penjing.export_litert(
        model, folder / f"sparse_{sparsity}.tflite", encoding="sparse", runtime="x86"
    )
    row = {
        "sparsity": sparsity,
        "bytes_dense": dense.stat().st_size,
        "bytes_sparse": sparse.stat().st_size,
        "largest_relative_difference": largest_difference(dense, sparse, options.seed),
    }
    for state, cold in (("warm", False), ("cold", True)):
        report = penjing.measure_latency(
            [dense, sparse], rounds=options.rounds, cold_caches=cold
        )
        first, second = report.files
        row[state] = {
            "milliseconds_dense": first.milliseconds,
            "milliseconds_sparse": second.milliseconds,
            "speedup": second.speedup,
            "speedup_low": second.speedup_low,
            "speedup_high": second.speedup_high,
        }
        print(f"{sparsity:.0%} zeros, {state}: {second.speedup:.2f}x", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(sparsity, Path(folder), options) for sparsity in SPARSITIES]
    settings = {
        "layers": LAYERS,
        "units": WIDTH,
        "batch": 1,
        "threads": 1,
        "rounds": options.rounds,
        "seed": options.seed,
    }
    print(write_results("sparse_dense", {"settings": settings, "rows": rows}))


if __name__ == "__main__":
    main()
