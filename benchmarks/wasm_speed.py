"""Zeros that pay in browsers: a MobileNetV1 of 224x224, sparse against dense and int8.

    python benchmarks/wasm_speed.py

Random weights, the smallest of each 1x1 convolution set to zero. Files run in LiteRT.js
in Chromium without a window, in turns, one thread; see `penjing setup-wasm`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results
from keras import layers

import penjing
from penjing.sparse.dense_twin import dense_twin
from penjing.specializing import specialize

# Filters of the 1x1 convolution, and stride of the depthwise one before it.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
SAMPLES = 8


def build_mobilenet(size: int, sparsity: float, seed: int = 0) -> keras.Model:
    """MobileNetV1 with explicit padding where the stride is 2, and zeros."""
    image = keras.Input((size, size, 3))
    x = layers.ZeroPadding2D(1)(image)
    x = layers.ReLU(6.0)(layers.Conv2D(32, 3, strides=2)(x))
    for filters, stride in BLOCKS:
        if stride == 2:
            x = layers.ZeroPadding2D(1)(x)
        padding = "valid" if stride == 2 else "same"
        x = layers.DepthwiseConv2D(3, strides=stride, padding=padding)(x)
        x = layers.ReLU(6.0)(x)
        x = layers.ReLU(6.0)(layers.Conv2D(filters, 1)(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(1000)(x))
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([_values(layer, w, sparsity, rng) for w in layer.weights])
    return model


def _values(layer, weight, sparsity: float, rng: np.random.Generator) -> np.ndarray:
    shape = tuple(weight.shape)
    if len(shape) == 1:
        return rng.normal(scale=0.1, size=shape).astype("float32")
    is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
    values = rng.normal(size=shape)
    if isinstance(layer, layers.Conv2D) and shape[:2] == (1, 1):
        values[np.abs(values) <= np.quantile(np.abs(values), sparsity)] = 0
    inputs = np.prod(shape[:2] if is_depthwise else shape[:-1])
    scale = np.sqrt(2 / inputs / np.mean(values**2))  # outputs as large as inputs
    return (values * scale).astype("float32")


def measure(folder: Path, sparsity: float, options: argparse.Namespace) -> dict:
    """Write the three files, compare their outputs and time them."""
    dense, sparse, int8 = (
        folder / f"{name}.tflite" for name in ("dense", "sparse", "int8")
    )
    model = build_mobilenet(options.size, sparsity)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(SAMPLES, options.size, options.size, 3)).astype("f4")
    penjing.export_litert(model, sparse, encoding="sparse", runtime="wasm")
    dense.write_bytes(dense_twin(sparse.read_bytes(), "sparse"))
    penjing.export_litert(model, int8, "int8", representative_data=images)
    int8.write_bytes(specialize(int8.read_bytes()))
    proof = penjing.verify(
        sparse, twin=dense, inputs=images, engine=options.engine, rounds=1
    )
    report = penjing.measure_wasm_latency(
        [dense, sparse, int8],
        engine=options.engine,
        rounds=options.rounds,
        runs=3,
        warm_up=10,
    )
    rows = dict(zip(("dense", "sparse", "int8"), report.files, strict=True))
    return {
        "sparsity": sparsity,
        "runtime": report.conditions.runtime,
        "largest_difference": proof.difference,
        "largest_difference_to_python": proof.python_difference,
        "largest_output": float(np.abs(model.predict(images, verbose=0)).max()),
        "faster_than_dense": rows["sparse"].speedup,
        "faster_than_int8": rows["sparse"].speedup / rows["int8"].speedup,
        "files": {
            name: {
                "bytes": row.bytes,
                "milliseconds": row.milliseconds,
                "quartiles": [row.lower_quartile, row.upper_quartile],
                "speedup": [row.speedup, row.speedup_low, row.speedup_high],
            }
            for name, row in rows.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--engine", default="chromium")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--sparsities", default="0.8,0.9,0.95")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for sparsity in map(float, options.sparsities.split(",")):
            rows.append(measure(Path(folder), sparsity, options))
            print(rows[-1], flush=True)
    if (options.size, options.engine) == (224, "chromium"):
        write_results("wasm_speed", {"image_size": options.size, "results": rows})


if __name__ == "__main__":
    main()
