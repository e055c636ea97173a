"""Data through a model: the ranges that its activations need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.data.batches import input_batches
from penjing.engine.activations.activation_config import HIGHEST, LOWEST
from penjing.engine.batch_statistics import run_on_data
from penjing.engine.compression_model import CompressionModel
from penjing.errors import DataError
from penjing.models.stand_ins import stand_in

MAX_SAMPLES = 1024
PERCENTILE = 99.99
_BATCH = 64
_SAMPLED = 20_000  # values of a tensor that are kept of each batch
_LEAST_SAMPLED = 256  # of one that is small
_MOMENTUM = 0.9
_SHARES = np.linspace(0.2, 1.0, 81)  # of the whole range, tried by "mse"

Range = tuple[float, float]
Observer = Callable[[Sequence[np.ndarray]], Range]


def calibrate(model: CompressionModel, data: Any, observer: str) -> None:
    """Find the ranges of a model's activations on data, and set them.

    `data` has the inputs: an array, what the model is called with in arrays, or a data
    set of batches, each `x`, `(x, y)` or such a list. At most 1,024 samples are used;
    none, or such as do not fit, are a DataError. `observer` is one of `OBSERVERS`.
    """
    grids = model.activations
    if grids is None or grids.plan is None:
        raise DataError(f"The model {model.name!r} does not round its activations.")
    fixed = grids.plan.fixed
    batches: dict[str, list[np.ndarray]] = {}

    seen: dict[str, np.ndarray] = {}
    per_batch = _SAMPLED
    ends = sees_ends(observer)

    def note(values: Any, group: str) -> None:
        if group in fixed:
            return
        array = ops.convert_to_numpy(ops.cast(values, "float32")).ravel()
        earlier = [seen[group]] if group in seen else []  # it holds several tensors
        seen[group] = np.concatenate([*earlier, sampled(array, per_batch, ends)])

    observed = stand_in(model, activations=grids.observed_by(note))
    for inputs in _batches(data, model):
        seen.clear()
        samples = len(keras.tree.flatten(inputs)[0])
        # Small batches are more of them.
        per_batch = max(_SAMPLED * min(samples, _BATCH) // _BATCH, _LEAST_SAMPLED)
        run_on_data(observed, inputs, "calibration_data")
        for group, values in seen.items():
            _check_finite(values)
            batches.setdefault(group, []).append(values)
    if not batches:
        raise DataError("`calibration_data` is empty. Pass some real inputs.")
    find = OBSERVERS[observer]
    grids.set_ranges({group: find(v) for group, v in batches.items()})


def _min_max(batches: Sequence[np.ndarray]) -> Range:
    """The least and largest value of all."""
    return min(float(b.min()) for b in batches), max(float(b.max()) for b in batches)


def _moving_average(batches: Sequence[np.ndarray]) -> Range:
    """The least and largest values of the batches, averaged, later ones count more."""
    low, high = float(batches[0].min()), float(batches[0].max())
    for batch in batches[1:]:
        low = _MOMENTUM * low + (1 - _MOMENTUM) * float(batch.min())
        high = _MOMENTUM * high + (1 - _MOMENTUM) * float(batch.max())
    return low, high


def _percentile(batches: Sequence[np.ndarray]) -> Range:
    """What one value in ten thousand lies below, and one above."""
    values = np.concatenate(batches)
    low, high = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
    return float(low), float(high)


def _mse(batches: Sequence[np.ndarray]) -> Range:
    """The part of the whole range with the least squared error of rounding."""
    values = np.concatenate(batches)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    errors = []
    for share in _SHARES:
        step = max((high - low) * share / (HIGHEST - LOWEST), 1e-30)
        clipped = np.clip(values, low * share, high * share)
        errors.append(np.square(np.rint(clipped / step) * step - values).mean())
    best = float(_SHARES[int(np.argmin(errors))])
    return low * best, high * best


OBSERVERS: dict[str, Observer] = {
    "moving_average": _moving_average,
    "min_max": _min_max,
    "percentile": _percentile,
    "mse": _mse,
}


def sees_ends(observer: str) -> bool:
    """Whether an observer is to see the ends of each batch, however rare such are.

    Percentiles count: the ends of all batches would stand for far more values.
    """
    return observer != "percentile"


def sampled(values: np.ndarray, count: int = _SAMPLED, ends: bool = True) -> np.ndarray:
    """`count` values spread evenly over a flat array; its least and its largest too.

    The array itself where it has no more.
    """
    if values.size <= count:
        return values
    rows = np.linspace(0, values.size - 1, count).astype(int)
    if not ends:
        return np.asarray(values[rows])
    least_and_largest = np.array([values.min(), values.max()], values.dtype)
    return np.concatenate([values[rows], least_and_largest])


def _check_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise DataError(
            "An activation is NaN or infinite on `calibration_data`. Check the data "
            "and the weights of the model."
        )


def _batches(data: Any, model: CompressionModel) -> Iterator[Any]:
    """Batches of inputs, until there were enough samples."""
    samples = 0
    for batch in input_batches(data, _BATCH, "calibration_data", model.model):
        yield batch
        samples += len(keras.tree.flatten(batch)[0])
        if samples >= MAX_SAMPLES:
            return
