"""Batch normalization that fits what flows through a compressed model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.batch_statistics import (
    find_batch_normalizations,
    reestimate_batch_normalization,
)
from penjing.models.copying import copy_model

_MOST_BATCHES = 16
_NARROWEST = 0.25  # and its inverse: a variance changes by no more


def correct_normalizations(
    model: keras.Model, given: keras.Model, batches: Sequence[Any]
) -> None:
    """Move the statistics of a compressed model by as much as what they are of moved.

    Both are measured on the same few inputs, of the model that was given too: so what
    these inputs have by chance cancels out. Frozen normalizations move too, for what
    is in front of them was compressed, frozen or not.
    """
    norms = find_batch_normalizations(model, frozen=True)
    if not norms or not batches:
        return
    before, after = (_measured(one, batches) for one in (given, model))
    for norm, (mean, variance), (new_mean, new_variance) in zip(
        norms, before, after, strict=True
    ):
        epsilon = norm.epsilon
        ratio = (new_variance + epsilon) / (variance + epsilon)
        ratio = np.clip(ratio, _NARROWEST, 1 / _NARROWEST)
        own = ops.convert_to_numpy(norm.moving_mean.value)
        norm.moving_mean.assign(own + (new_mean - mean))
        own = ops.convert_to_numpy(norm.moving_variance.value)
        norm.moving_variance.assign((own + epsilon) * ratio - epsilon)


def _measured(model: keras.Model, batches: Sequence[Any]) -> list[tuple[Any, Any]]:
    used = ((batch, None) for batch in batches[:_MOST_BATCHES])
    free = copy_model(model)
    for norm in find_batch_normalizations(free, frozen=True):
        norm.trainable = True
    twin = reestimate_batch_normalization(free, used)
    return [
        (
            ops.convert_to_numpy(norm.moving_mean.value),
            ops.convert_to_numpy(norm.moving_variance.value),
        )
        for norm in find_batch_normalizations(twin, frozen=True)
    ]
