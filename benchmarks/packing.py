"""Flash and RAM that zeros and levels buy in TensorFlow Lite Micro, nothing trained.

Three networks get weights of a kind: as drawn, few levels, zeros, or both, each with
one scale for a weight. They are exported as int8 files, which are packed as they are,
and after `penjing.shrink_litert`. Every packed file runs in TFLM beside its plain one,
and has to give the same outputs bit for bit.
Run: python benchmarks/packing.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results

import penjing

SIDE = 28
KINDS = {
    "90 % zeros, 7 levels": {"zeros": 0.9, "levels": 3},
    "90 % zeros": {"zeros": 0.9, "levels": 127},
    "16 clusters": {"zeros": 0.0, "clusters": 16},
    "15 clusters and 50 % zeros": {"zeros": 0.5, "clusters": 15},
    "4 clusters": {"zeros": 0.0, "clusters": 4},
    "as drawn": {"zeros": 0.0, "levels": 127},
}


def cnn() -> keras.Model:
    """Two convolutions and two dense layers: 56,714 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def ds_cnn() -> keras.Model:
    """Four depthwise-separable blocks of 64 channels, as for keyword spotting."""
    layers = keras.layers
    stack = [
        keras.Input((49, 40, 1)),
        layers.Conv2D(64, (10, 4), strides=2, padding="same", activation="relu"),
    ]
    for _ in range(4):
        stack += [
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Conv2D(64, 1, activation="relu"),
        ]
    return keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(12)])


def resnet() -> keras.Model:
    """Three residual blocks of 16, 32 and 64 channels."""
    layers = keras.layers
    inputs = keras.Input((SIDE, SIDE, 1))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    for channels in (16, 32, 64):
        strides = 1 if channels == 16 else 2
        y = layers.Conv2D(channels, 3, strides, "same", activation="relu")(x)
        y = layers.Conv2D(channels, 3, padding="same")(y)
        x = layers.Conv2D(channels, 1, strides, "same")(x) if strides > 1 else x
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


NETWORKS = {"cnn": cnn, "ds-cnn": ds_cnn, "resnet": resnet}


def changed(values, zeros: float, levels: int = 0, clusters: int = 0):
    """Weights of a kind on one grid, the smallest magnitudes zero.

    The levels are equally frequent where they are few: of all cases the one with the
    most bits.
    """
    size = np.abs(values)
    kept = size >= np.quantile(size, zeros)
    step = size.max() / 127
    if clusters:
        edges = np.quantile(values[kept], np.linspace(0, 1, clusters + 1)[1:-1])
        groups = np.searchsorted(edges, values)
        means = [values[kept & (groups == n)].mean() for n in range(clusters)]
        return np.where(kept, np.round(np.take(means, groups) / step) * step, 0)
    if levels < 10:
        edges = np.quantile(size[kept], np.linspace(0, 1, levels + 1)[1:-1])
        return (
            np.sign(values) * kept * (1 + np.searchsorted(edges, size)) * size.max() / 3
        )
    return kept * np.round(values / step) * step


def prepared(build, kind: dict) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = build()
    for layer in model.layers:
        for weight in layer.weights:
            if len(weight.shape) > 1:
                weight.assign(changed(weight.numpy(), **kind).astype("float32"))
    return model


def measure(model: keras.Model, folder: Path) -> dict:
    raw, small = folder / "raw.tflite", folder / "small.tflite"
    samples = np.random.default_rng(0).random((32, *model.input_shape[1:]), "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random networks are not worth a notice
        penjing.export_litert(
            model, raw, "int8", representative_data=samples, verify=False
        )
    start = time.perf_counter()
    row = {"plain": raw.stat().st_size, "packed": packed(raw)}
    row["seconds"] = round(time.perf_counter() - start, 2)
    penjing.shrink_litert(raw, small)
    row["shrunk"] = small.stat().st_size
    row["shrunk_and_packed"] = packed(small)
    for key in ("packed", "shrunk_and_packed"):
        if row[key]:
            row[f"ratio_{key}"] = round(row["plain"] / row[key]["flash"], 2)
    return row


def packed(path: Path) -> dict | None:
    out = path.with_suffix(".packed")
    try:
        report = penjing.pack_litert(path, out, overwrite=True, progress=False)
    except penjing.UnsupportedModelError:
        return None  # nothing gets smaller
    if not report.compared:
        raise SystemExit('TFLM is not installed: pip install "penjing[micro]"')
    return {
        "flash": report.flash_after,
        "arena_before": report.arena_before,
        "arena": report.arena_after,
        "compared_equal": report.compared,
        "forms": [row.form for row in report.weights],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    options = parser.parse_args()
    rows: dict = {}
    for network in options.networks.split(","):
        for kind, numbers in KINDS.items():
            model = prepared(NETWORKS[network], numbers)
            with tempfile.TemporaryDirectory() as folder:
                found = {"parameters": model.count_params()}
                found |= measure(model, Path(folder))
            rows.setdefault(network, {})[kind] = found
            print(network, kind, found, flush=True)
            write_results("packing", {"networks": rows})


if __name__ == "__main__":
    main()
