"""Scores -> keep-masks, exact to the last weight and without a full sort."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from penjing.numerics import Tensor

_BISECT_EVERY = 3
_ALL_BUT_SIGN = 0x7FFFFFFF


def kept_count(size: int, sparsity: float | Tensor) -> Tensor:
    """How many of `size` values stay at a sparsity: `max(round(n (1 - s)), 1)`.

    The sparsity is a number or a float tensor of shape `()`, the result an int32 tensor
    of shape `()`. Halves are rounded to even, in float32.
    """
    density = 1.0 - ops.cast(sparsity, "float32")
    kept = ops.cast(ops.round(float(size) * density), "int32")
    return ops.clip(kept, 1, size)


def top_k_mask(scores: Tensor, k: int | Tensor) -> Tensor:
    """Keep exactly the `k` highest scores.

    The k-th highest score is found by searching the bit pattern of non-negative
    floats, which as an integer has the order of the floats. Each pass counts the
    scores at or above a probe. Two probes in three are interpolated between the
    counts at both ends of the bracket, the third halves the bracket, so that smooth
    score distributions take about 10 passes and no distribution takes more than 93.
    The search stops as soon as the count is `k`; ties at the threshold are then
    resolved by index.

    Args:
        scores: Float tensor of any shape, values at least 0 and not NaN.
        k: An integer or an int32 tensor of shape `()`, `1 <= k <= size`.

    Returns:
        Boolean tensor of the shape of `scores`; `True` keeps the value. Among equal
        scores the lower index (of the flattened tensor) is kept.
    """
    pattern = _bit_pattern(scores)
    search = _search_eagerly if keras.backend.backend() == "torch" else _search
    threshold, count, count_above = search(pattern, k)
    return ops.cond(
        ops.equal(count, k),
        lambda: pattern >= threshold,
        lambda: _keep_first_ties(pattern, threshold, k - count_above),
    )


def _search(pattern: Tensor, k: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold, count at or above it, count above it, inside a compiled step."""

    def unfinished(i: Tensor, low: Tensor, n_low: Tensor, high: Tensor, *_: Tensor):  # type: ignore[no-untyped-def]
        return ops.logical_and(ops.not_equal(n_low, k), high - low > 1)

    def narrow(
        i: Tensor, low: Tensor, n_low: Tensor, high: Tensor, n_high: Tensor
    ) -> tuple[Tensor, ...]:
        excess = ops.cast(n_low - k, "float32")
        fraction = excess / ops.cast(n_low - n_high, "float32")
        fraction = ops.where(ops.equal(i % _BISECT_EVERY, 2), 0.5, fraction)
        stride = ops.cast(ops.cast(high - low, "float32") * fraction, "int32")
        probe = ops.clip(low + stride, low + 1, high - 1)
        count = ops.count_nonzero(pattern >= probe)
        enough = count >= k
        return (
            i + 1,
            ops.where(enough, probe, low),
            ops.where(enough, count, n_low),
            ops.where(enough, high, probe),
            ops.where(enough, n_high, count),
        )

    size = ops.cast(math.prod(pattern.shape), "int32")
    zero = ops.cast(0, "int32")
    start = (zero, ops.min(pattern), size, ops.max(pattern) + 1, zero)
    _, low, n_low, _, n_high = ops.while_loop(unfinished, narrow, start)
    return low, n_low, n_high


def _search_eagerly(pattern: Tensor, k: int | Tensor) -> tuple[int, int, int]:
    """`_search` for PyTorch: Python integers, two tensor operations a pass."""
    wanted = int(k)
    low, high = int(ops.min(pattern)), int(ops.max(pattern)) + 1
    n_low, n_high, i = math.prod(pattern.shape), 0, 0
    while n_low != wanted and high - low > 1:
        bisect = i % _BISECT_EVERY == 2
        fraction = 0.5 if bisect else (n_low - wanted) / (n_low - n_high)
        probe = min(max(low + int((high - low) * fraction), low + 1), high - 1)
        count = int((pattern >= probe).count_nonzero())
        if count >= wanted:
            low, n_low = probe, count
        else:
            high, n_high = probe, count
        i += 1
    return low, n_low, n_high


def _keep_first_ties(pattern: Tensor, threshold: Tensor, places: Tensor) -> Tensor:
    flat = ops.reshape(pattern, (-1,))
    tied = ops.equal(flat, threshold)
    rank = ops.cumsum(ops.cast(tied, "int32"))
    kept = ops.logical_or(flat > threshold, ops.logical_and(tied, rank <= places))
    return ops.reshape(kept, pattern.shape)


def _bit_pattern(scores: Tensor) -> Tensor:
    """Integers in the order of non-negative floats, subnormal ones told apart too."""
    pattern = ops.view(ops.cast(scores, "float32"), "int32")
    return ops.bitwise_and(pattern, _ALL_BUT_SIGN)  # -0.0 is 0.0


def n_m_mask(scores: Tensor, n: int, m: int) -> Tensor:
    """Keep the `n` highest scores of every `m` along the last axis.

    The scores are at least 0, of shape `(..., k)`, and so is the boolean mask; `True`
    keeps the value. Among equal scores the lower index is kept. A ValueError says that
    not `0 < n <= m`, or that `m` does not divide `k`.

    Reference:
        Zhou et al., 2021, https://arxiv.org/abs/2102.04010
    """
    if not 0 < n <= m:
        raise ValueError(f"`n` must be in 1 to m={m}, got n={n}.")
    if scores.shape[-1] % m:
        raise ValueError(
            f"The last axis must be a multiple of m={m}, got shape "
            f"{tuple(scores.shape)}. Choose another `m` or exclude the layer."
        )
    runs = ops.reshape(_bit_pattern(scores), (-1, m))
    rank = ops.zeros(runs.shape, dtype="int32")
    for i in range(m):
        rival = runs[:, i : i + 1]
        first = ops.arange(m) > i
        ahead = ops.logical_or(
            rival > runs, ops.logical_and(ops.equal(rival, runs), first)
        )
        rank = rank + ops.cast(ahead, "int32")
    return ops.reshape(rank < n, scores.shape)


def pool_blocks(scores: Tensor, rows: int, columns: int, pooling: str) -> Tensor:
    """One score for every block: `(ceil(height / rows), ceil(width / columns))`.

    Scores are `(height, width)`, the pooling is `"mean"` or `"max"`. Blocks at the
    lower and right edges may be partial; they are pooled over the values that they
    have.
    """
    height, width = scores.shape
    down, across = -(-height // rows), -(-width // columns)
    margins = ((0, down * rows - height), (0, across * columns - width))
    blocks = (down, rows, across, columns)
    padded = ops.reshape(ops.pad(scores, margins), blocks)
    if pooling == "max":
        return ops.max(padded, axis=(1, 3))
    members = ops.reshape(ops.pad(ops.ones_like(scores), margins), blocks)
    return ops.sum(padded, axis=(1, 3)) / ops.sum(members, axis=(1, 3))


def expand_blocks(
    mask: Tensor, rows: int, columns: int, shape: Sequence[int]
) -> Tensor:
    """Undo `pool_blocks` for a boolean mask: each value fills its block.

    The mask has the shape that `pool_blocks` gave, `shape` is `(height, width)` of the
    result.
    """
    full = ops.repeat(ops.repeat(mask, rows, axis=0), columns, axis=1)
    return full[: shape[0], : shape[1]]


def erk_sparsities(shapes: Sequence[Sequence[int]], sparsity: float) -> list[float]:
    """Sparsity of each layer under the Erdos-Renyi-Kernel rule, in [0, 1).

    The density of a layer is proportional to the sum of its dimensions over their
    product, so that large layers are cut more; layers that would be denser than 1 stay
    whole and the others make up for them. Weighted by size, the sparsities average to
    `sparsity`, in [0, 1).

    Reference:
        Evci et al., 2020, https://arxiv.org/abs/1911.11134
    """
    sizes = np.array([np.prod(shape) for shape in shapes], dtype=np.float64)
    raw = np.array([np.sum(shape) for shape in shapes], dtype=np.float64) / sizes
    budget = (1.0 - sparsity) * sizes.sum()
    dense = np.zeros(len(sizes), dtype=bool)
    while True:
        spare = budget - sizes[dense].sum()
        factor = spare / (raw * sizes)[~dense].sum() if not dense.all() else 0.0
        density = np.where(dense, 1.0, factor * raw)
        over = density > 1.0
        if not over.any():
            return [float(value) for value in 1.0 - density]
        dense |= over
