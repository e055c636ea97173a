"""Weights -> scores: how much a weight is worth keeping. Scores are at least 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import keras
from keras import ops

from penjing.numerics import Tensor

Importance: TypeAlias = Callable[[Tensor], Tensor]
ImportanceName = Literal["magnitude", "normalized_magnitude", "lamp", "random"]

_TINY = 1.2e-38  # above zero, and not flushed to it


def magnitude(weights: Tensor) -> Tensor:
    """Absolute value, in float32 and of the same shape.

    Reference:
        Han et al., 2015, https://arxiv.org/abs/1506.02626
    """
    return ops.abs(ops.cast(weights, "float32"))


def normalized_magnitude(weights: Tensor) -> Tensor:
    """Absolute value over the root mean square of its layer; float32 of the same shape.

    Layers with small weights then compete fairly in the global scope.
    """
    scores = _relative(magnitude(weights))
    scale = ops.sqrt(ops.mean(ops.square(scores)))
    return scores / ops.maximum(scale, _TINY)


def lamp(weights: Tensor) -> Tensor:
    """Layer-adaptive magnitude: the share of a weight among those not below it.

    `w_i^2 / sum of w_j^2 over |w_j| >= |w_i|`, with equal weights ranked by index, the
    lower index higher. The largest weight of every layer scores 1.
    Scores are float32, of the same shape.

    Reference:
        Lee et al., 2021, https://arxiv.org/abs/2010.07611
    """
    squares = ops.reshape(ops.square(_relative(magnitude(weights))), (-1,))
    order = ops.argsort(-squares)
    descending = ops.take(squares, order)
    rank = ops.argsort(order)
    rivals = ops.take(ops.cumsum(descending), rank)
    return ops.reshape(squares / ops.maximum(rivals, _TINY), weights.shape)


def random(weights: Tensor, seed: int = 0) -> Tensor:
    """Uniform scores that do not look at the weights: the control in a comparison.

    They are float32 in [0, 1), of the shape of the weights. The same seed gives the
    same scores at every update, so that the masks of a rising schedule are nested.
    """
    return keras.random.uniform(weights.shape, dtype="float32", seed=seed)


def _relative(scores: Tensor) -> Tensor:
    """Scores over the highest one, so that no square overflows or vanishes."""
    return scores / ops.maximum(ops.max(scores), _TINY)


IMPORTANCES: dict[ImportanceName, Importance] = {
    "magnitude": magnitude,
    "normalized_magnitude": normalized_magnitude,
    "lamp": lamp,
    "random": random,
}
