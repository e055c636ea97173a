"""Scores of a layer's weights -> which stay, as long as the others still change.

A mask of the whole layer says how many units stay among some inputs. Which of them is
decided when their turn comes, by what the weights are then.
"""

from __future__ import annotations

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
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores, axis=None, kind="stable")[:kept]] = True
    return mask.reshape(scores.shape)


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
    units = ops.convert_to_numpy(pattern.unit_scores(scores.astype("float32")))
    mask = best_mask(units, kept_number(units.size, sparsity))
    whole = pattern.weight_mask(ops.convert_to_tensor(mask), scores.shape)
    return np.asarray(ops.convert_to_numpy(whole), bool)


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
        return Choice(step=BLOCK, choose=_as_many(mask, Block(1, 1)))
    if type(pattern) is Block:
        step = max(BLOCK // pattern.rows, 1) * pattern.rows
        return Choice(step=step, choose=_as_many(mask, pattern))
    return fixed_choice(mask)


def fixed_choice(mask: Array) -> Choice:
    """Weights stay as a mask of the layer says, `(inputs, outputs)`."""
    return Choice(step=BLOCK, choose=lambda i, scores: mask[i : i + len(scores)])


def _as_many(mask: Array, block: Block) -> Any:
    def choose(first: int, scores: Array) -> Array:
        given = mask[first : first + len(scores)]
        if block.rows * block.columns == 1:
            return best_mask(scores, int(given.sum()))
        units = _pooled(scores, block)
        kept = best_mask(units, int(_pooled(given, block).astype(bool).sum()))
        spread = kept.repeat(block.rows, 0).repeat(block.columns, 1)
        return spread[: len(scores), : scores.shape[1]]

    return choose


def _pooled(scores: Array, block: Block) -> Array:
    """Scores of blocks, pooled over the values that they have."""
    rows, columns = block.rows, block.columns
    height, width = scores.shape
    down = np.arange(0, height, rows)
    across = np.arange(0, width, columns)
    if block.pooling == "max":
        return np.maximum.reduceat(np.maximum.reduceat(scores, down, 0), across, 1)
    total = np.add.reduceat(np.add.reduceat(scores, down, 0, float), across, 1)
    sizes = np.outer(np.diff([*down, height]), np.diff([*across, width]))
    return np.asarray(total / sizes)
