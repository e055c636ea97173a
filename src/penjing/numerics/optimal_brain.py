"""Weights that make up for others which fall or are rounded: no training, few inputs.

A layer multiplies rows of inputs `x`, `(rows, inputs)`, by a matrix `w`, `(inputs,
outputs)`. What it gives out changes by `trace(d^T h d)` where the matrix changes by
`d`, with `h = x^T x`. Inputs are gone through one by one: the weights of one fall or
are rounded, and those of the inputs behind it are moved so that the least changes.

Reference:
    Frantar and Alistarh, 2023, SparseGPT, https://arxiv.org/abs/2301.00774
    Frantar et al., 2022, GPTQ, https://arxiv.org/abs/2210.17323
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

BLOCK = 128  # inputs whose changes reach those behind them at once
_PART = 32  # the same within a block
DAMPING = 0.01  # of the mean of the diagonal
_MOST_DAMPING = 100.0
_LEAF = 64

Array: TypeAlias = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InverseFactor:
    """Upper triangular `u` with `u^T u` the inverse of a damped `x^T x`.

    Attributes:
        upper: `(inputs, inputs)` in float64.
        damping: What was added to the diagonal, as a part of its mean: more than was
            asked for where the matrix was singular nevertheless.
    """

    upper: Array
    damping: float


def inverse_factor(moments: Array, damping: float = DAMPING) -> InverseFactor:
    """Factor the inverse of a symmetric, positive matrix, `(inputs, inputs)`.

    Inputs that are always zero get the damping alone. A ValueError says that the matrix
    is not finite.
    """
    moments = np.asarray(moments, "float64")
    mean = float(np.diagonal(moments).mean())
    if not np.isfinite(mean):
        raise ValueError("`moments` holds NaN or infinite values.")
    while True:
        damped = moments.copy()
        damped[np.diag_indices_from(damped)] += damping * mean if mean > 0 else 1.0
        try:
            upper = _upper_of_inverse(damped)
        except np.linalg.LinAlgError:
            upper = np.full((1, 1), np.nan)
        if np.isfinite(upper).all():
            return InverseFactor(upper=upper, damping=damping)
        if damping > _MOST_DAMPING:
            raise ValueError("`moments` is no positive matrix.")
        damping = max(10 * damping, 1e-6)


def _upper_of_inverse(matrix: Array) -> Array:
    """`r r^T` is the matrix with `r` upper triangular; its inverse is the factor."""
    turned = np.linalg.cholesky(matrix[::-1, ::-1])
    return _inverse_of_upper(np.ascontiguousarray(turned[::-1, ::-1]))


def _inverse_of_upper(matrix: Array) -> Array:
    size = len(matrix)
    if size <= _LEAF:
        return np.triu(np.linalg.inv(matrix))
    half = size // 2
    inverse = np.zeros_like(matrix)
    first = inverse[:half, :half] = _inverse_of_upper(matrix[:half, :half])
    last = inverse[half:, half:] = _inverse_of_upper(matrix[half:, half:])
    inverse[:half, half:] = -first @ (matrix[:half, half:] @ last)
    return inverse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Which weights stay, chosen some inputs at a time.

    Attributes:
        step: Inputs that are chosen among at once.
        choose: Takes the first of them and their scores, `(inputs, outputs)`, and gives
            the mask of that shape; `True` keeps.
    """

    step: int
    choose: Callable[[int, Array], Array]


def saliency(weights: Array, upper: Array) -> Array:
    """What the outputs change by, at least, where a weight falls; of their shape.

    Those of the inputs before it stay as they are.
    """
    return np.asarray(np.square(weights / np.diagonal(upper)[:, None]))


def compensated(
    weights: Array,
    upper: Array,
    choice: Choice | None = None,
    rounded: Callable[[Array], Array] | None = None,
) -> Array:
    """Weights of which some fall, or are rounded, or both, and the others make up.

    Args:
        weights: `(inputs, outputs)`.
        upper: What `inverse_factor` gave, `(inputs, inputs)`.
        choice: Which weights stay; None keeps all.
        rounded: Gives the values on the grid for the weights of one input,
            `(outputs,)`; None rounds nothing. Zero stays zero.

    Returns:
        The new weights, float64. Those that fell are exactly zero.
    """
    work = np.array(weights, "float64")
    step = choice.step if choice else BLOCK
    block = max(BLOCK // step, 1) * step
    for start in range(0, len(work), block):
        stop = min(start + block, len(work))
        errors = _settle(
            work[start:stop], upper[start:stop, start:stop], start, choice, rounded
        )
        work[stop:] -= upper[start:stop, stop:].T @ errors
    return work


def _settle(
    work: Array,
    upper: Array,
    start: int,
    choice: Choice | None,
    rounded: Callable[[Array], Array] | None,
) -> Array:
    """Settle the inputs of one block, in place; gives what those behind must know."""
    errors = np.zeros_like(work)
    steps = np.diagonal(upper)
    mask = np.ones(work.shape, bool)
    part = _part_of(choice)
    for i in range(len(work)):
        if i and i % part == 0:  # what the last few inputs changed, at once
            done = slice(i - part, i)
            work[i:] -= upper[done, i:].T @ errors[done]
        if choice and i % choice.step == 0:
            own = slice(i, i + choice.step)
            scores = np.square(work[own] / steps[own, None])
            mask[own] = choice.choose(start + i, scores)
        settled = np.where(mask[i], work[i], 0.0)
        if rounded is not None:
            settled = rounded(settled)
        errors[i] = (work[i] - settled) / steps[i]
        behind = slice(i + 1, i - i % part + part)
        work[behind] -= np.outer(upper[i, behind], errors[i])
        work[i] = settled
    return errors


def _part_of(choice: Choice | None) -> int:
    """Inputs that are chosen among never lie in two parts, but in whole blocks."""
    if choice is None or choice.step > BLOCK // 2:
        return _PART
    return max(_PART // choice.step, 1) * choice.step


def layer_error(change: Array, moments: Array) -> float:
    """What the outputs change by, squared and summed: `trace(d^T h d)`.

    The change is `(inputs, outputs)`, the moments are `x^T x`.
    """
    return float(np.vdot(change, np.asarray(moments, "float64") @ change))


def refined(
    weights: Array,
    original: Array,
    moments: Array,
    rounded: Callable[[Array], Array] | None = None,
    *,
    damping: float = 0.0,
    sweeps: int = 1,
) -> Array:
    """Weights moved one input after the other to where the outputs change least.

    Each step gives the weights of one input the values that are best as long as the
    others stay: it never makes the damped error larger. Zeros stay zeros. `original`
    are the weights that the layer had; `rounded` is as in `compensated`, `damping` as
    in `inverse_factor`.

    Reference:
        Behdin et al., 2023, QuantEase, https://arxiv.org/abs/2309.01885
    """
    work, moments = np.array(weights, "float64"), np.array(moments, "float64")
    moments[np.diag_indices_from(moments)] += damping * np.diagonal(moments).mean()
    steps = np.diagonal(moments)
    kept = work != 0
    left = moments @ (original - work)
    for _ in range(sweeps):
        for start in range(0, len(work), BLOCK):
            own = slice(start, start + BLOCK)
            changes = _refine_block(
                work[own], left[own], moments[own, own], steps[own], kept[own], rounded
            )
            left -= moments[:, own] @ changes
    return work


def _refine_block(
    work: Array,
    left: Array,
    moments: Array,
    steps: Array,
    kept: Array,
    rounded: Callable[[Array], Array] | None,
) -> Array:
    left, changes = left.copy(), np.zeros_like(work)
    for i in range(len(work)):
        if i and i % _PART == 0:
            done = slice(i - _PART, i)
            left[i:] -= moments[i:, done] @ changes[done]
        if steps[i] <= 0:
            continue
        best = np.where(kept[i], work[i] + left[i] / steps[i], 0.0)
        if rounded is not None:
            best = rounded(best)
        changes[i] = best - work[i]
        behind = slice(i + 1, i - i % _PART + _PART)
        left[behind] -= np.outer(moments[behind, i], changes[i])
        work[i] = best
    return changes
