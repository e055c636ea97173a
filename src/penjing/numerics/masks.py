"""Scores -> keep-masks, exact to the last weight and without a full sort."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.numerics import Tensor, ranking
from penjing.numerics.ranking import (
    Bracket,
    Counts,
    bit_pattern,
    choice,
    count_dtype,
    higher,
    likely_bracket,
    lower,
    search,
)

_INFINITY = 0x7F800000


def kept_count(size: int, sparsity: float | Tensor) -> Tensor:
    """How many of `size` values stay at a sparsity: `max(round(n (1 - s)), 1)`.

    The sparsity is a number or a float tensor of shape `()`, the result an int32 tensor
    of shape `()`, or a wider one where `size` is 2^31 or more. Halves are rounded to
    even, in float32.
    """
    density = 1.0 - ops.cast(sparsity, "float32")
    dtype = count_dtype(size)
    kept = ops.cast(ops.round(float(size) * density), dtype)
    return ops.clip(kept, 1, ops.convert_to_tensor(size, dtype))


def apply_mask(values: Tensor, mask: Tensor) -> Tensor:
    """Values with zeros where a boolean mask of their shape is False, to train through.

    Neither it nor its gradient makes floats of the whole mask that stay for a step.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _selected(values, mask)
    if backend == "torch":
        return values * ops.view(mask, "int8")  # several times as fast as by booleans
    return values * ops.cast(mask, values.dtype)


def _selected(values: Tensor, mask: Tensor) -> Tensor:
    """`apply_mask` for TensorFlow.

    It would cast a mask once, as soon as the step begins, and keep the floats until the
    backward pass; and the gradient of its selection has more operations.
    """

    @ops.custom_gradient
    def select(values: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        return ops.where(mask, values, 0), lambda upstream: ops.where(mask, upstream, 0)

    return select(values)


def top_k_mask(scores: Tensor, k: int | Tensor) -> Tensor:
    """Keep exactly the `k` highest scores.

    The k-th highest is found by counting, as `numerics/ranking.py` says; ties at the
    threshold are then resolved by index.

    Args:
        scores: Float tensor of any shape, values at least 0 and not NaN.
        k: An integer or an int32 tensor of shape `()`, `1 <= k <= size`.

    Returns:
        Boolean tensor of the shape of `scores`; `True` keeps the value. Among equal
        scores the lower index (of the flattened tensor) is kept.
    """
    counts = Counts([bit_pattern(scores)])
    k = counts.number(k)
    is_large = counts.size >= ranking.SAMPLED
    start = likely_bracket(counts, k) if is_large else counts.bracket()
    return _keep(counts, k, start)


def top_k_masks(
    scores: Sequence[Tensor], k: int | Tensor, least: Sequence[int | Tensor]
) -> list[Tensor]:
    """Keep the `k` highest scores of several tensors together, and some of each.

    As `top_k_mask` of all in one tensor, which is not made, after the `least[i]`
    highest of `scores[i]` were set aside; where these are more than `k`, the first
    tensors have theirs. Among equal scores those of the first tensor are kept.

    Args:
        scores: Float tensors of any shapes, values at least 0 and not NaN.
        k: An integer or an integer tensor of shape `()`, `1 <= k <=` all values.
        least: For each an integer or an integer tensor of shape `()`, at most its size.

    Returns:
        A boolean tensor for each of `scores`.
    """
    every = Counts([bit_pattern(score) for score in scores])
    left = every.number(k)
    floors = []
    for floor in least:
        floors.append(lower(every.number(floor), left))
        left = left - floors[-1]
    every.floors = floors
    threshold = search(every, every.number(k), every.bracket()).low
    above = [every.of(i, threshold + 1) for i in range(len(scores))]
    sure = [higher(*pair) for pair in zip(above, floors, strict=True)]
    places = every.number(k) - functools.reduce(operator.add, sure)
    masks = []
    for i, pattern in enumerate(every.patterns):
        count = every.of(i, threshold)
        tied = lower(places, higher(count, sure[i]) - sure[i])
        places = places - tied
        here = Bracket(threshold, count, threshold + 1, above[i])
        masks.append(_keep_near(pattern, sure[i] + tied, here))
    return masks


def lowest_kept(scores: Tensor, mask: Tensor) -> Tensor:
    """The lowest score that a mask keeps: float32 of shape `()`."""
    kept = ops.where(mask, bit_pattern(scores), _INFINITY)
    # Keras 3.12 views no tensor of shape `()` on TensorFlow.
    lowest = ops.view(ops.reshape(ops.min(kept), (1,)), "float32")
    return ops.reshape(lowest, ())


def _keep(counts: Counts, k: Any, start: Bracket) -> Tensor:
    """The mask of the k highest scores of one tensor."""
    found = search(counts, k, start)
    pattern = counts.patterns[0]
    return ops.cond(
        ops.equal(found.n_low, k),
        lambda: pattern >= found.low,
        lambda: _keep_first_ties(pattern, found.low, k - found.n_high),
    )


def _keep_near(pattern: Tensor, k: Any, here: Bracket) -> Tensor:
    """The mask of the k highest scores of one tensor, where two counts are known.

    k lies between them, or is the count above both; else scores below both are kept,
    which were set aside.
    """
    counts = Counts([pattern])
    k, n_low, n_high = (counts.number(n) for n in (k, here.n_low, here.n_high))
    above, below = k <= n_high, k > n_low
    starts = zip(
        (here.high, n_high, here.high, n_high),
        (here.low * 0, counts.number(counts.size), here.low, n_low),
        (here.low, n_low, here.high, n_high),
        strict=True,
    )
    start = (choice(above, a, choice(below, b, h)) for a, b, h in starts)
    return _keep(counts, k, Bracket(*start))


def _keep_first_ties(pattern: Tensor, threshold: Tensor, places: Tensor) -> Tensor:
    flat = ops.reshape(pattern, (-1,))
    tied = ops.equal(flat, threshold)
    rank = ops.cumsum(ops.cast(tied, "int32"))
    kept = ops.logical_or(flat > threshold, ops.logical_and(tied, rank <= places))
    return ops.reshape(kept, pattern.shape)


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
    runs = ops.reshape(bit_pattern(scores), (-1, m))
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
