"""How much a model's outputs change, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

Array = np.ndarray[Any, Any]
_TINY = 1e-9


def outputs_of(model: keras.Model, batches: Sequence[Any]) -> list[Array]:
    """The float outputs of a model on batches of inputs, in float64."""
    found: list[list[Array]] = []
    for batch in batches:
        tensors = keras.tree.map_structure(ops.convert_to_tensor, batch)
        flat = keras.tree.flatten(model(tensors, training=False))
        found.append([np.asarray(ops.convert_to_numpy(_float(x))) for x in flat])
    return [_joined(parts) for parts in zip(*found, strict=True)]


def _joined(parts: Sequence[Array]) -> Array:
    """All batches of one output; where their samples differ in length, as rows."""
    if len({part.shape[1:] for part in parts}) > 1:
        width = parts[0].shape[-1]
        same = all(part.ndim > 1 and part.shape[-1] == width for part in parts)
        parts = [part.reshape(-1, width) if same else part.ravel() for part in parts]
    return np.concatenate(parts).astype("float64")


def _float(tensor: Any) -> Any:
    return ops.cast(tensor, "float32")


def output_change(before: Sequence[Array], after: Sequence[Array]) -> float:
    """How far outputs are from what they were, summed over a model's outputs.

    Of probabilities it is the Kullback-Leibler divergence; of other numbers the mean
    squared change over their variance.
    """
    return sum(_change(a, b) for a, b in zip(before, after, strict=True))


def _change(before: Array, after: Array) -> float:
    if not before.size:
        return 0.0
    if not np.isfinite(after).all():
        return float("inf")
    if _are_probabilities(before) and _are_probabilities(after):
        logs = np.log(before + _TINY) - np.log(after + _TINY)
        return float((before * logs).sum(axis=-1).mean())
    if before.ndim > 1 and before.shape[-1] == 1 and _are_chances(before):
        pairs = (np.concatenate([x, 1 - x], -1) for x in (before, after))
        return _change(*pairs)
    return float(np.square(after - before).mean() / max(before.var(), _TINY))


def _are_probabilities(values: Array) -> bool:
    if values.ndim < 2 or values.shape[-1] < 2 or (values < -1e-6).any():
        return False
    return bool((np.abs(values.sum(axis=-1) - 1) < 1e-2).all())


def _are_chances(values: Array) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())
