"""The learning rate of a recipe that leaves it open: the model's own, or a tried one.

A recipe's rate suits the models that it was tuned on. A model that was compiled with
the same kind of optimizer knows better; for others a short range test (Smith, 2017)
trains a copy at rates that grow from harmless to ruinous, and looks where the loss
falls and where it breaks out. A trained model has nothing to fall from: there the
break-out decides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from penjing.errors import CompressionError
from penjing.json_values import JsonValue
from penjing.models.copying import copy_model
from penjing.models.keras_private import global_generator
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.runs.random_state import set_global_seeds, set_layer_seeds
from penjing.pipeline.training import build_optimizer, loss_and_metrics
from penjing.pipeline.training_data import Segment, TrainingData
from penjing.progress import Listener, Progress

STAGE = "Finding the learning rate"
LOWEST_RATE, HIGHEST_RATE = 1e-5, 1.0
STEPS = 100
# A rate that callbacks such as ReduceLROnPlateau have made smaller is not the model's.
_LEAST_OWN_RATE = 1e-5
_USUAL_RATE = 1e-3
# Optimizers that take steps of like size at the same rate.
_ALIKE = {"adam", "adamw", "nadam"}
_WINDOW, _BATCHES = 7, 10
# What is a rise or a fall: so many times what smoothed losses differ by chance. A rise
# is also as much of the fall before it, and of the loss.
_SIGMAS, _SHARE = 6.0, 0.25
_BELOW_BREAK_OUT = 10.0
_HOPELESS = 100.0  # Times the first loss.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChosenRate(JsonValue):
    """A learning rate, and where it comes from, for people."""

    value: float
    source: str

    def __str__(self) -> str:
        return f"the peak of the learning rate is {self.value:.3g}, {self.source}"


def choose_learning_rate(
    model: keras.Model,
    data: TrainingData,
    training: TrainingRecipe,
    *,
    progress: Listener,
) -> ChosenRate:
    """The rate for a recipe's optimizer: the model's own, or by a range test.

    The model is left alone, and so are the global generators of Python, NumPy and
    Keras; the same data, seed and model give the same rate.

    Raises:
        CompressionError: If the loss is no number at the smallest rate.
    """
    own = own_learning_rate(model, training.optimizer)
    if own is not None:
        name = type(_inner(model.optimizer)).__name__
        return ChosenRate(value=own, source=f"that of the model's own {name}")
    if not model.trainable_variables:
        return ChosenRate(
            value=_USUAL_RATE, source="as nothing of the model is trained"
        )
    progress(Progress(stage=STAGE))
    with _chance_kept():
        losses = _sweep(model, data, training, progress)
    if not losses or not math.isfinite(losses[0]):
        raise CompressionError(
            f"No learning rate can be found for {model.name!r}: its loss is "
            f"{losses[0] if losses else 'not told'} at the smallest one. Check the "
            "data for NaN, or set `learning_rate` in the recipe."
        )
    value = rate_of_sweep(_rates(len(losses)), losses)
    source = f"by a range test of {len(losses)} batches"
    return ChosenRate(value=float(f"{value:.2g}"), source=source)


def own_learning_rate(model: keras.Model, optimizer: str) -> float | None:
    """The rate that a model was compiled with, where it suits an optimizer.

    That is one of the same kind; of a schedule it is the rate at its beginning, after
    warm-up. None: the model has none, or another kind of optimizer, or a rate that
    callbacks have made so small that it teaches nothing any more.
    """
    compiled = _inner(model.optimizer) if model.compiled else None
    if compiled is None:
        return None
    name = type(compiled).__name__.lower()
    if name != optimizer and not {name, optimizer} <= _ALIKE:
        return None
    try:
        rate = _begin_of(compiled.get_config()["learning_rate"])
    except Exception:  # of a user's own optimizer or schedule
        return None
    return rate if math.isfinite(rate) and rate >= _LEAST_OWN_RATE else None


def _inner(optimizer: Any) -> Any:
    """The optimizer that one which scales the loss hands its gradients to."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _begin_of(rate: Any) -> float:
    """A rate as `get_config` gives it, of a schedule the one that it begins with."""
    if not isinstance(rate, dict):
        return float(rate)
    config = rate.get("config", {})
    begin = config.get("warmup_target") or config.get("initial_learning_rate")
    if begin is None:
        begin = keras.saving.deserialize_keras_object(rate)(0)
    return float(keras.ops.convert_to_numpy(begin))


def rate_of_sweep(rates: npt.ArrayLike, losses: npt.ArrayLike) -> float:
    """The rate to train at, by the losses of a training in which it grew.

    It is the one at which the smoothed loss falls most steeply, and at most a tenth of
    the one at which the loss breaks out. Where it falls no more than batches differ, as
    that of a trained model, it is that tenth; where it does not break out either, 1e-3
    at most.

    Args:
        rates: Rates, rising evenly on a logarithmic scale; shape `(n,)`.
        losses: The loss of a batch at each, the first a finite number. Where it is
            none, it has broken out.

    Example:
        >>> rates = np.geomspace(1e-5, 1, 100)
        >>> losses = np.where(rates < 0.1, 1 - 0.5 * np.tanh(rates / 1e-2), 9.0)
        >>> 1e-3 < rate_of_sweep(rates, losses) < 1e-2
        True

    Reference:
        Smith, 2017, https://arxiv.org/abs/1506.01186
    """
    at = np.asarray(rates, np.float64)
    raw = np.asarray(losses, np.float64)
    # As many as can be drawn: how far it breaks out says nothing.
    bound = raw[0] + _HOPELESS * (abs(raw[0]) + np.finfo(np.float64).tiny)
    raw = np.where(np.isfinite(raw), np.minimum(raw, bound), bound)
    smooth, noise, start = _smoothed(raw), _noise(raw), float(np.mean(raw[:_BATCHES]))
    best = np.minimum.accumulate(smooth)
    scale = np.maximum(np.maximum(start - best, 0.0), np.abs(best))
    within = smooth - best <= np.maximum(_SIGMAS * noise, _SHARE * scale)
    end = int(np.flatnonzero(within)[-1]) + 1  # risen from here on, for good
    broken = end < len(at)
    most = float(at[min(end, len(at) - 1)]) / _BELOW_BREAK_OUT
    most = max(most, float(at[0]))
    before = smooth[: max(end, 2)]
    if start - before.min() <= _SIGMAS * noise or len(before) < _BATCHES:
        return most if broken else min(most, _USUAL_RATE)
    steepest = int(np.argmin(np.gradient(before)))
    return min(most, float(at[steepest]))


def _smoothed(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Means over a window around each value; it is smaller at the ends."""
    window = np.ones(_WINDOW)
    sums = np.convolve(values, window, mode="full")
    counts = np.convolve(np.ones_like(values), window, mode="full")
    half = _WINDOW // 2
    return (sums / counts)[half : half + len(values)]


def _noise(values: npt.NDArray[Any]) -> float:
    """How much smoothed values differ by chance, where the rate does nothing yet."""
    differences = np.diff(values[: max(len(values) // 3, 2)])
    if not len(differences):
        return 0.0
    # A standard deviation that single values do not move.
    typical = float(np.median(np.abs(differences))) / 0.6745
    return typical / math.sqrt(2 * _WINDOW)


def _rates(count: int) -> npt.NDArray[Any]:
    grown = (HIGHEST_RATE / LOWEST_RATE) ** (np.arange(count) / (STEPS - 1))
    return LOWEST_RATE * grown


def _sweep(
    model: keras.Model, data: TrainingData, training: TrainingRecipe, progress: Listener
) -> list[float]:
    """Losses of the batches of a copy that is trained at the rates of `_rates`."""
    set_global_seeds(data.seed, tensorflow=False)
    twin = copy_model(model)
    set_layer_seeds(twin, data.seed)
    schedule = keras.optimizers.schedules.ExponentialDecay(
        LOWEST_RATE, STEPS - 1, HIGHEST_RATE / LOWEST_RATE
    )
    plain = dataclasses.replace(training, learning_rate=LOWEST_RATE)
    optimizer = type(build_optimizer(plain, 1))(learning_rate=schedule)
    compiled = loss_and_metrics(model, training)
    losses = {key: compiled[key] for key in ("loss", "loss_weights") if key in compiled}
    twin.compile(optimizer=optimizer, **losses)
    source = data.with_whole_batches()
    steps = source.steps_per_epoch
    recorder = _LossRecorder(lambda done: progress(_told(done)))
    twin.fit(
        source.batches(Segment(epoch=0, start=0, stop=steps)),
        epochs=-(-STEPS // steps),
        shuffle=False,
        verbose=0,
        callbacks=[recorder],
    )
    return recorder.losses


def _told(done: int) -> Progress:
    return Progress(stage=STAGE, done=done, total=STEPS)


class _LossRecorder(keras.callbacks.Callback):
    """Keeps the loss of each batch, which `fit` gives as a mean over the epoch."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__()
        self.losses: list[float] = []
        self._tell = tell

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._sum = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        total = float((logs or {}).get("loss", math.nan)) * (batch + 1)
        self.losses.append(total - self._sum)
        self._sum = total
        self._tell(len(self.losses))
        last, first = self.losses[-1], self.losses[0]
        ruined = not abs(last) <= abs(first) * _HOPELESS
        if ruined or len(self.losses) == STEPS:
            self.model.stop_training = True


@contextlib.contextmanager
def _chance_kept() -> Iterator[None]:
    """Give the generators of Python, NumPy and Keras their states of before."""
    own, state = global_generator(), random.getstate()
    numpy_state = np.random.get_state()
    keras_state = keras.ops.convert_to_numpy(own.state.value)
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        own.state.assign(keras_state)
