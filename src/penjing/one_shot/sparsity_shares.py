"""Which part of its weights each layer gives, so that the model changes least."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.numerics.mask_choices import best_mask, kept_number
from penjing.numerics.shares import share_out
from penjing.one_shot.layer_compression import (
    COMPENSATING,
    LayerInputs,
    LayerTarget,
    compress_matrix,
    errors_of_sparsities,
    own_error,
)

Array = np.ndarray[Any, Any]

LEVELS = (0.3, 0.5, 0.7, 0.85, 0.95)
FLOOR = 0.05  # of its even share stays in each layer
_COLUMNS = 32
_STEPS = 200  # between none and all of a layer


def error_curve(
    matrix: Array,
    target: LayerTarget,
    inputs: LayerInputs | None,
    levels: Sequence[float] = LEVELS,
) -> list[float]:
    """The error of a layer at several sparsities, alone; at none it is 0.

    Some of its outputs, spread evenly, stand for all. Where the inputs are not known it
    is the sum of the squares that fall.
    """
    groups = 1 if inputs is None else len(inputs.products)
    if inputs is not None and groups == 1 and matrix.shape[1] > _COLUMNS:
        places = np.linspace(0, matrix.shape[1] - 1, _COLUMNS).astype(int)
        share = matrix.shape[1] / _COLUMNS
        matrix = matrix[:, places]
    else:
        share = 1.0
    if inputs is not None and target.method in COMPENSATING:
        errors = errors_of_sparsities(matrix, target, inputs, levels)
        return [share * error for error in errors]
    found = []
    for level in levels:
        sparse = dataclasses.replace(target, sparsity=level, grid=None)
        result = compress_matrix(matrix, sparse, inputs)
        found.append(share * own_error(matrix, result))
    return found


def even_out(
    sizes: Sequence[int],
    curves: Sequence[Sequence[float]],
    effects: Sequence[float],
    sparsity: float,
    levels: Sequence[float] = LEVELS,
) -> list[float]:
    """The sparsity of each layer by what its errors cost at the model's outputs.

    `effects` says what the outputs change by for one unit of a layer's error.
    """
    most = max(levels[-1], 1 - (1 - sparsity) * FLOOR)
    fine = np.linspace(0, most, _STEPS)
    costs = [
        effect * finely(curve, levels, fine)
        for curve, effect in zip(curves, effects, strict=True)
    ]
    return share_out(sizes, [fine] * len(sizes), costs, sparsity)


def finely(curve: Sequence[float], levels: Sequence[float], fine: Array) -> Array:
    """A curve at other sparsities, which rise from 0: a power of them between two.

    Outside of the levels it goes on as between the nearest two.
    """
    x, y = np.log(levels), np.log(np.maximum(curve, 1e-30))
    place = np.log(np.maximum(fine, 1e-9))
    nearest = np.clip(np.searchsorted(x, place), 1, len(x) - 1)
    slopes = np.diff(y) / np.diff(x)
    found = np.exp(y[nearest] + slopes[nearest - 1] * (place - x[nearest]))
    return np.asarray(np.where(fine > 0, found, 0.0))


def by_magnitude(matrices: Sequence[Array], sparsity: float) -> list[float]:
    """The sparsity of each layer where all weights compete by their magnitudes.

    Each layer keeps a small part of its even share.
    """
    sizes = [matrix.size for matrix in matrices]
    scores = []
    for matrix in matrices:
        flat = np.abs(matrix).ravel().astype("float32")
        floor = max(int(FLOOR * (1 - sparsity) * flat.size), 1)
        flat[best_mask(flat, floor)] = np.inf
        scores.append(flat)
    kept = max(kept_number(sum(sizes), sparsity), len(sizes))
    mask = best_mask(np.concatenate(scores), kept)
    parts = np.split(mask, np.cumsum(sizes)[:-1])
    return [1.0 - float(part.mean()) for part in parts]
