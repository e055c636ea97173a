"""Which part of its weights each layer gives, so that the model changes least."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.numerics.mask_choices import best_mask, kept_number
from penjing.numerics.shares import share_out
from penjing.one_shot.layer_compression import (
    LayerInputs,
    LayerTarget,
    compress_matrix,
)

Array = np.ndarray[Any, Any]

LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
FLOOR = 0.05  # of its even share stays in each layer
_COLUMNS = 48


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
    found = []
    for level in levels:
        sparse = dataclasses.replace(target, sparsity=level, grid=None)
        result = compress_matrix(matrix, sparse, inputs)
        error = result.error
        if error is None:
            error = float(np.square(matrix - result.values).sum())
        found.append(share * error)
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
    every = [0.0, *levels, most] if most > levels[-1] else [0.0, *levels]
    costs = []
    for curve, effect in zip(curves, effects, strict=True):
        last = [curve[-1] * (1 - levels[-1]) / (1 - most)] if most > levels[-1] else []
        costs.append([effect * cost for cost in (0.0, *curve, *last)])
    return share_out(sizes, [every] * len(sizes), costs, sparsity)


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
