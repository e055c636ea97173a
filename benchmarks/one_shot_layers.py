"""Errors of layers after one-shot pruning, with and without weights that make up.

In each of 20 models, of random weights but for what `out/benchmarks` has, half of every
layer falls by the same mask: what the layer's outputs change by, summed over inputs,
where the others make up for it, and where they stay. Nothing is left out: the JSON has
the layers in which making up did not help. Run: python benchmarks/one_shot_layers.py
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results
from keras import layers

import penjing
from penjing.data.architectures import build_architecture

SAMPLES = 64
ARCHITECTURES = ("article", "lenet-300-100", "cnn", "lenet-5", "resnet-20")
Build = Callable[[], keras.Model]


def application(name: str, **settings: Any) -> Build:
    shape = (64, 64, 3)
    build = getattr(keras.applications, name)
    return lambda: build(weights=None, input_shape=shape, classes=10, **settings)


def stacked(shape: tuple[int, ...], *own: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *own, layers.Dense(5)])


def separable() -> keras.Model:
    pool = layers.GlobalAveragePooling2D()
    parts = [layers.SeparableConv2D(n, 3, activation="relu") for n in (16, 24, 32)]
    return stacked((24, 24, 3), *parts, pool)


def grouped() -> keras.Model:
    parts = [layers.Conv2D(24, 3, groups=n, activation="relu") for n in (1, 2, 4)]
    return stacked((20, 20, 3), *parts, layers.Flatten())


def temporal() -> keras.Model:
    kinds = {"causal": 1, "same": 2, "valid": 3}
    parts = [layers.Conv1D(20, n, padding=kind) for kind, n in kinds.items()]
    return stacked((40, 6), *parts, layers.Flatten())


def volumes() -> keras.Model:
    parts = [layers.Conv3D(n, 3, activation="relu") for n in (8, 12)]
    return stacked((8, 8, 8, 2), *parts, layers.GlobalMaxPooling3D())


def autoencoder() -> keras.Model:
    down = [layers.Conv2D(n, 3, 2, padding="same") for n in (12, 20)]
    up = [layers.Conv2DTranspose(n, 3, 2, padding="same") for n in (12, 3)]
    return keras.Sequential([keras.Input((24, 24, 3)), *down, layers.ReLU(), *up])


def transformer() -> keras.Model:
    ids = keras.Input((24,), dtype="int32")
    x = layers.Embedding(99, 32)(ids)
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
        hidden = layers.Dense(32)(layers.Dense(64, activation="gelu")(x))
        x = layers.LayerNormalization()(x + hidden)
    return keras.Model(ids, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def recurrent() -> keras.Model:
    return stacked((30, 8), layers.Dense(16), layers.GRU(24), layers.Dense(16))


def nested() -> keras.Model:
    body = stacked((16, 16, 3), layers.Conv2D(12, 3), layers.Flatten())
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.Dense(4)(layers.ReLU()(body(image))))


MODELS: dict[str, Build] = {
    **{name: lambda n=name: build_architecture(n) for name in ARCHITECTURES},
    "mobilenet": lambda: build_architecture("mobilenet", (64, 64, 3)),
    "MobileNetV2": application("MobileNetV2", alpha=0.35),
    "MobileNetV3Small": application("MobileNetV3Small", include_preprocessing=False),
    "EfficientNetB0": application("EfficientNetB0"),
    "EfficientNetV2B0": application("EfficientNetV2B0", include_preprocessing=False),
    "DenseNet121": application("DenseNet121"),
    "NASNetMobile": application("NASNetMobile"),
    "separable": separable,
    "grouped": grouped,
    "temporal": temporal,
    "volumes": volumes,
    "autoencoder": autoencoder,
    "transformer": transformer,
    "recurrent": recurrent,
    "nested": nested,
}


def inputs_of(model: keras.Model) -> Any:
    """Random samples, in which neighbours and channels are alike."""
    rng = np.random.default_rng(0)
    shape = tuple(model.inputs[0].shape[1:])
    if "int" in str(model.inputs[0].dtype):
        return rng.integers(0, 99, (SAMPLES, *shape)).astype("int32")
    values = rng.normal(size=(SAMPLES, *shape)) + rng.normal(size=(SAMPLES, 1))[0]
    for axis in range(1, values.ndim):
        values = values + np.roll(values, 1, axis) + np.roll(values, 2, axis)
    return (values / values.std()).astype("float32")


def measured(name: str) -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    start = time.process_time()
    _, report = penjing.prune_one_shot(
        model,
        inputs_of(model),
        0.5,
        scope="layer",
        return_report=True,
        progress=False,
    )
    rows = [row for row in report.rows if row.plain_error]
    ratios = {row.path: row.error / row.plain_error for row in rows}
    return {
        "layers": len(rows),
        "lower": sum(ratio < 1 for ratio in ratios.values()),
        "mean_ratio": round(float(np.mean(list(ratios.values()))), 4),
        "not_lower": {p: round(r, 4) for p, r in ratios.items() if not r < 1},
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    results = {}
    for name in options.models:
        results[name] = measured(name)
        print(name, results[name], flush=True)
    if set(results) == set(MODELS):
        print(write_results("one_shot_layers", {"models": results}))


if __name__ == "__main__":
    main()
