"""Schedules: training step -> sparsity.

A schedule is a frozen value that is called with a step and that knows at which
steps the masks are computed anew. Steps count training batches from 1: the first
batch of training is step 1, and after `end_step` batches the final sparsity holds.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from penjing.numerics import Tensor


class Schedule:
    """Base of all schedules; subclass it to write one's own.

    A subclass is a frozen dataclass with the fields `begin_step`, `end_step`
    (`None`: for ever) and `frequency`, a `final_sparsity`, and a `__call__` that
    takes a Python number or an integer tensor and gives the sparsity at that step.
    Decorate it with `keras.saving.register_keras_serializable(package=...)` so
    that a model which uses it can be saved.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Linear(Schedule):
        ...     final_sparsity: float
        ...     begin_step: int = 0
        ...     end_step: int = 1000
        ...     frequency: int = 100
        ...
        ...     def __call__(self, step):
        ...         return self.final_sparsity * self.progress(step)
        >>> Linear(final_sparsity=0.5)(500)
        0.25
    """

    begin_step: int
    end_step: int | None
    frequency: int
    final_sparsity: float

    def __post_init__(self) -> None:
        """Make Python's of NumPy's numbers, such as `np.ceil(...).astype(int)`."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())

    def __call__(self, step: int | Tensor) -> float | Tensor:
        """Sparsity asked for at `step`, from 0 to 1."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `__call__(self, step)`, which gives "
            "the sparsity at a step."
        )

    def updates_at(self, step: int | Tensor) -> bool | Tensor:
        """Whether the masks are computed anew at `step`.

        They are at the first step, at the last one, and between them whenever
        `frequency` steps have passed since `begin_step`.
        """
        due = (step - self.begin_step) % self.frequency == 0
        due = due | (step == max(self.begin_step, 1))
        if self.end_step is None:
            return due & (step >= self.begin_step)
        due = due | (step == max(self.end_step, 1))
        within = (step >= self.begin_step) & (step <= max(self.end_step, 1))
        return due & within

    def progress(self, step: int | Tensor) -> float | Tensor:
        """Way from `begin_step` to `end_step`, clamped to 0 to 1; float32."""
        if self.end_step is None:
            raise ValueError(
                f"{type(self).__name__} has no `end_step`, so no progress towards it."
            )
        length = float(self.end_step - self.begin_step)
        if isinstance(step, int | float):
            return min(max((step - self.begin_step) / length, 0.0), 1.0)
        passed = ops.cast(step - self.begin_step, "float32")
        return ops.clip(passed / length, 0.0, 1.0)

    def in_steps(self, training_steps: int | None) -> Schedule:
        """This schedule in steps: itself, but where it is in fractions of training."""
        return self

    def ending_at(self, sparsity: float) -> Self:
        """The same schedule with another final sparsity."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        name = "final_sparsity" if "final_sparsity" in names else "sparsity"
        return dataclasses.replace(self, **{name: sparsity})  # type: ignore[type-var]

    def get_config(self) -> dict[str, Any]:
        """Fields as a JSON-ready dictionary, for Keras serialization."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Schedule from the dictionary that `get_config` gave."""
        return cls(**config)

    def to_json(self) -> str:
        """This schedule as JSON text; `schedule_from_json` reads it."""
        return json.dumps(keras.saving.serialize_keras_object(self))


def schedule_from_json(text: str) -> Schedule:
    """Read a schedule that `Schedule.to_json` wrote.

    Args:
        text: JSON text.

    Returns:
        A schedule equal to the one that was written.

    Raises:
        ValueError: If the text is not the JSON of a registered schedule.
    """
    try:
        schedule = keras.saving.deserialize_keras_object(json.loads(text))
    except Exception as error:  # what Keras raises here is not documented
        raise ValueError(
            f"This is not the JSON of a registered schedule: {text[:200]!r}. A class "
            "of your own must be imported and registered before it is read. "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(schedule, Schedule):
        raise ValueError(f"Expected a schedule, got {type(schedule).__name__}.")
    return schedule


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True)
class ConstantSparsity(Schedule):
    """The same sparsity from `begin_step` on.

    Args:
        sparsity: Fraction of zeros, in [0, 1).
        begin_step: First step at which weights are masked.
        end_step: Last step at which masks are computed anew; `None`: never stop.
        frequency: Steps between two computations of the masks.

    Example:
        >>> ConstantSparsity(0.5)(10)
        0.5
    """

    sparsity: float
    begin_step: int = 0
    end_step: int | None = None
    frequency: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sparsity("sparsity", self.sparsity)
        _check_steps(self)

    @property
    def final_sparsity(self) -> float:  # type: ignore[override]
        """The sparsity that holds in the end."""
        return self.sparsity

    def __call__(self, step: int | Tensor) -> float | Tensor:
        """The constant sparsity, whatever the step."""
        return self.sparsity


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ramp(Schedule):
    """Sparsity that rises between two steps, as far as `_remaining` says."""

    initial_sparsity: float = 0.0
    final_sparsity: float
    begin_step: int
    end_step: int
    frequency: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sparsity("initial_sparsity", self.initial_sparsity)
        _check_sparsity("final_sparsity", self.final_sparsity)
        _check_steps(self)
        if self.end_step is None or self.begin_step >= self.end_step:
            raise ValueError(
                "`end_step` must come after `begin_step`, got "
                f"begin_step={self.begin_step} and end_step={self.end_step}. "
                "Steps count batches: epochs * steps per epoch."
            )
        if self.initial_sparsity > self.final_sparsity:
            raise ValueError(
                "`final_sparsity` must not be below `initial_sparsity`, got "
                f"initial_sparsity={self.initial_sparsity} and "
                f"final_sparsity={self.final_sparsity}."
            )

    def __call__(self, step: int | Tensor) -> float | Tensor:
        """Sparsity at `step`."""
        gap = self.initial_sparsity - self.final_sparsity
        return self.final_sparsity + gap * self._remaining(self.progress(step))

    def _remaining(self, progress: float | Tensor) -> float | Tensor:
        """Part of the way up that is left, from 1 to 0."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PolynomialDecay(_Ramp):
    """Sparsity that rises from `begin_step` to `end_step`, then holds.

    With p the progress from 0 to 1 and the default power, density falls fast at
    first and slowly at the end: `final + (initial - final) * (1 - p) ** power`.

    Args:
        initial_sparsity: Sparsity at `begin_step`, in [0, 1).
        final_sparsity: Sparsity from `end_step` on, in [0, 1).
        begin_step: First step at which weights are masked.
        end_step: Step at which the final sparsity is reached.
        power: Exponent, above 0; 1 is linear, 3 is the paper's.
        frequency: Steps between two computations of the masks.

    Example:
        >>> schedule = PolynomialDecay(
        ...     final_sparsity=0.8, begin_step=0, end_step=100
        ... )
        >>> [round(float(schedule(step)), 2) for step in (0, 50, 100, 500)]
        [0.0, 0.7, 0.8, 0.8]

    Reference:
        Zhu and Gupta, 2017, https://arxiv.org/abs/1710.01878
    """

    power: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _is_number(self.power) or not 0 < self.power < math.inf:
            raise ValueError(
                f"`power` must be a number above 0, got power={self.power!r}. "
                "1 is linear, 3 is usual."
            )

    def _remaining(self, progress: float | Tensor) -> float | Tensor:
        return (1.0 - progress) ** self.power


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineDecay(_Ramp):
    """Sparsity that rises along half a cosine from `begin_step` to `end_step`.

    Slow at both ends, so that neither the first nor the last cut is abrupt.

    Args:
        initial_sparsity: Sparsity at `begin_step`, in [0, 1).
        final_sparsity: Sparsity from `end_step` on, in [0, 1).
        begin_step: First step at which weights are masked.
        end_step: Step at which the final sparsity is reached.
        frequency: Steps between two computations of the masks.

    Example:
        >>> schedule = CosineDecay(final_sparsity=0.8, begin_step=0, end_step=100)
        >>> [round(float(schedule(step)), 2) for step in (0, 50, 100)]
        [0.0, 0.4, 0.8]

    Reference:
        Dettmers and Zettlemoyer, 2019, https://arxiv.org/abs/1907.04840
    """

    def _remaining(self, progress: float | Tensor) -> float | Tensor:
        if isinstance(progress, float):
            return 0.5 * (1 + math.cos(math.pi * progress))
        remaining = 0.5 * (1.0 + ops.cos(math.pi * progress))
        return ops.where(progress >= 1.0, 0.0, remaining)


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True)
class OneShot(Schedule):
    """All weights that go, go at one step; the masks then never change.

    Args:
        sparsity: Fraction of zeros, in [0, 1).
        step: The training batch, counted from 1, before which the cut is made.

    Example:
        >>> schedule = OneShot(0.5, step=10)
        >>> schedule(9), schedule(10)
        (0.0, 0.5)
    """

    sparsity: float
    step: int = 1
    frequency: int = dataclasses.field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sparsity("sparsity", self.sparsity)
        _check_count("step", self.step, minimum=1)

    def get_config(self) -> dict[str, Any]:
        """Fields as a JSON-ready dictionary."""
        return {"sparsity": self.sparsity, "step": self.step}

    @property
    def begin_step(self) -> int:  # type: ignore[override]
        """The one step at which masks are computed."""
        return self.step

    @property
    def end_step(self) -> int:  # type: ignore[override]
        """The one step at which masks are computed."""
        return self.step

    @property
    def final_sparsity(self) -> float:  # type: ignore[override]
        """The sparsity that holds in the end."""
        return self.sparsity

    def __call__(self, step: int | Tensor) -> float | Tensor:
        """Zero before the step, the sparsity from it on."""
        if isinstance(step, int | float):
            return self.sparsity if step >= self.step else 0.0
        return ops.where(step >= self.step, self.sparsity, 0.0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_sparsity(name: str, value: float) -> None:
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(
            f"`{name}` must be a number in [0, 1), got {name}={value!r}. It is the "
            "fraction of zeros: 0.8 for 80 %."
        )


def _check_count(name: str, value: int, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}, got {name}={value!r}. "
            "Steps count training batches."
        )


def _check_steps(schedule: Schedule) -> None:
    _check_count("begin_step", schedule.begin_step, minimum=0)
    _check_count("frequency", schedule.frequency, minimum=1)
    if schedule.end_step is None:
        return
    _check_count("end_step", schedule.end_step, minimum=0)
    if schedule.end_step < schedule.begin_step:
        raise ValueError(
            "`end_step` must not come before `begin_step`, got begin_step="
            f"{schedule.begin_step} and end_step={schedule.end_step}: this schedule "
            "would never fire."
        )
