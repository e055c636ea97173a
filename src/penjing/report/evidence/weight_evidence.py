"""Pictures of weights: histograms before and after, and what is left where."""

from __future__ import annotations

import keras
import numpy as np

from penjing.report.evidence.layer_evidence import match_paths, values_of_weights
from penjing.report.evidence.stored_weights import Array, shape_key
from penjing.report.evidence_rows import WeightPicture

BINS = 41
MAX_WEIGHTS = 40
MASK_SIDE = 64
_MAX_VALUES = 1_000_000
# The values that are furthest out are counted in the first and the last bin.
_INNER = (0.0005, 0.9995)


def draw_weights(
    baseline: keras.Model, compressed: keras.Model
) -> tuple[WeightPicture, ...]:
    """Draw the largest matrices and kernels of a model, in its order."""
    before, after = values_of_weights(baseline), values_of_weights(compressed)
    names = match_paths(list(before), list(after))
    matrices = [path for path, a in after.items() if len(shape_key(a.shape)) > 1]
    largest = sorted(matrices, key=lambda path: -after[path].size)[:MAX_WEIGHTS]
    chosen = set(largest)
    return tuple(
        draw_weight(path, before.get(names.get(path, "")), after[path])
        for path in matrices
        if path in chosen
    )


def draw_weight(path: str, before: Array | None, after: Array) -> WeightPicture:
    """Draw one weight; `before` is None where the baseline has no such weight."""
    parts = [_other_than_zero(part) for part in (before, after) if part is not None]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, _INNER) if values.size else (-1.0, 1.0)
    if not low < high:
        low, high = low - 0.5, high + 0.5
    zeros = int(np.count_nonzero(after == 0))
    return WeightPicture(
        path=path,
        shape=tuple(after.shape),
        low=float(low),
        high=float(high),
        before=() if before is None else _histogram(parts[0], low, high),
        after=_histogram(parts[-1], low, high),
        zeros_before=None if before is None else int(np.count_nonzero(before == 0)),
        zeros_after=zeros,
        mask=draw_mask(after) if zeros else (),
    )


def _other_than_zero(values: Array) -> Array:
    flat = values.reshape(-1)
    flat = flat[:: -(-flat.size // _MAX_VALUES)]
    return np.asarray(flat[flat != 0])


def _histogram(values: Array, low: float, high: float) -> tuple[int, ...]:
    inside = np.clip(values[np.isfinite(values)], low, high)
    return tuple(map(int, np.histogram(inside, BINS, (low, high))[0]))


def draw_mask(values: Array) -> tuple[str, ...]:
    """Draw what is left of a weight, as a matrix with its last axis to the right.

    Example:
        >>> draw_mask(np.eye(2))
        ('90', '09')
    """
    kept = (values.reshape(-1, values.shape[-1]) != 0).astype("f4")
    for axis in (0, 1):
        kept = _averaged(kept, axis)
    shares = kept / (kept.max() or 1.0)
    digits = np.where(shares > 0, np.maximum(np.round(9 * shares), 1), 0).astype(int)
    return tuple("".join(map(str, row)) for row in digits)


def _averaged(kept: Array, axis: int) -> Array:
    """Averages of neighbours, so that an axis has no more than `MASK_SIDE` places."""
    length = kept.shape[axis]
    if length <= MASK_SIDE:
        return kept
    edges = np.arange(MASK_SIDE) * length // MASK_SIDE
    counts = np.diff([*edges, length])
    shape = (-1, 1) if axis == 0 else (1, -1)
    return np.add.reduceat(kept, edges, axis) / counts.reshape(shape)
