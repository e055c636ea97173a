"""Scores of a layer's weights -> which stay, as long as the others still change.

A mask of the whole layer says how many units stay among some inputs. Which of them is
decided when their turn comes, by what the weights are then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from keras import ops

from penjing.numerics.optimal_brain import BLOCK, Choice
from penjing.numerics.patterns import NM, Block, Pattern, Unstructured

Array: TypeAlias = np.ndarray[Any, Any]


def kept_number(size: int, sparsity: float) -> int:
    """How many of `size` values stay at a sparsity, at least one."""
    return min(max(round(size * (1.0 - sparsity)), 1), size)


def best_mask(scores: Array, kept: int) -> Array:
    """Keep exactly the highest scores; of equal ones those of the lower index."""
    flat = scores.reshape(-1)
    if not 0 < kept < flat.size:
        return np.full(scores.shape, kept > 0)
    last = np.partition(flat, flat.size - kept)[flat.size - kept]
    mask = flat > last
    ties = np.flatnonzero(flat == last)
    mask[ties[: kept - np.count_nonzero(mask)]] = True
    return np.asarray(mask.reshape(scores.shape))


def best_of_each(scores: Array, kept: int) -> Array:
    """Keep the highest scores of each column, as many in all; a mask of their shape."""
    order = np.argsort(-scores, axis=0, kind="stable")
    mask = np.zeros(scores.shape, bool)
    np.put_along_axis(mask, order[:kept], True, axis=0)
    return mask


def pattern_mask(scores: Array, pattern: Pattern, sparsity: float) -> Array:
    """The mask of a matrix of scores, `(inputs, outputs)`, in a pattern.

    The sparsity is that of the pattern's units.
    """
    units = _units(scores, pattern)
    kept = best_mask(units, kept_number(units.size, sparsity))
    return _spread(kept, pattern, scores.shape)


def choice_in_turn(mask: Array, pattern: Pattern) -> Choice:
    """Choose as many units among some inputs as a mask of the layer does.

    The mask is `(inputs, outputs)`. Patterns that are not penjing's own keep it as it
    is.
    """
    if type(pattern) is NM:
        return Choice(
            step=pattern.m, choose=lambda _, scores: best_of_each(scores, pattern.n)
        )
    if type(pattern) is Unstructured:
        return Choice(
            step=BLOCK,
            choose=lambda i, scores: best_mask(
                scores, int(mask[i : i + len(scores)].sum())
            ),
        )
    if type(pattern) is Block:
        step = max(BLOCK // pattern.rows, 1) * pattern.rows
        return Choice(step=step, choose=_as_many_blocks(mask, pattern))
    return fixed_choice(mask)


def fixed_choice(mask: Array) -> Choice:
    """Weights stay as a mask of the layer says, `(inputs, outputs)`."""
    return Choice(step=BLOCK, choose=lambda i, scores: mask[i : i + len(scores)])


def side_by_side(choices: Sequence[Choice]) -> Choice:
    """One choice for several matrices of one shape whose outputs follow each other."""

    def choose(first: int, scores: Array) -> Array:
        parts = np.split(scores, len(choices), axis=1)
        pairs = zip(choices, parts, strict=True)
        return np.concatenate([own.choose(first, part) for own, part in pairs], axis=1)

    return Choice(step=choices[0].step, choose=choose)


def _as_many_blocks(mask: Array, block: Block) -> Any:
    def choose(first: int, scores: Array) -> Array:
        given = _units(mask[first : first + len(scores)], block)
        kept = best_mask(_units(scores, block), int((given > 0).sum()))
        return _spread(kept, block, scores.shape)

    return choose


def _units(scores: Array, pattern: Pattern) -> Array:
    """Scores of what falls together in a matrix."""
    units = pattern.unit_scores(ops.convert_to_tensor(scores, "float32"))
    return np.asarray(ops.convert_to_numpy(units))


def _spread(units: Array, pattern: Pattern, shape: Sequence[int]) -> Array:
    """The mask of a matrix from that of its units."""
    whole = pattern.weight_mask(ops.convert_to_tensor(units), shape)
    return np.asarray(ops.convert_to_numpy(whole), bool)
