"""Schedules with the names, arguments and numbers of tfmot."""

from __future__ import annotations

import abc
import dataclasses
import numbers
from typing import Any, Self

import keras
from keras import ops

from penjing.engine import schedules
from penjing.errors import CompressionError
from penjing.numerics import Tensor

_PACKAGE = "penjing.tfmot"
_LATE = 2**30


class PruningSchedule(abc.ABC):
    """When to prune, and how much: the base for a schedule of one's own.

    A subclass gives `__call__(step)`, which returns the pair
    `(should_prune, sparsity)`, and, if models that carry it are to be saved,
    `get_config()`. The step may be a Python number or a tensor inside a compiled
    training step, so write the body in `keras.ops`. Steps count training batches
    from 1.

    Example:
        >>> class Staircase(PruningSchedule):
        ...     def __call__(self, step):
        ...         sparsity = ops.minimum(0.1 * ops.floor(step / 100), 0.8)
        ...         return ops.equal(step % 100, 0), sparsity
        >>> [round(float(Staircase()(step)[1]), 1) for step in (0, 250, 9999)]
        [0.0, 0.2, 0.8]
    """

    @abc.abstractmethod
    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Say whether masks are renewed at `step`, and to which sparsity.

        Args:
            step: Number of the training batch, a Python number or a scalar tensor.

        Returns:
            A boolean scalar and a float scalar between 0 and 1.
        """

    def get_config(self) -> dict[str, Any]:
        """Return `{"class_name": ..., "config": {...}}`, or the inner part alone.

        Raises:
            CompressionError: If the subclass did not define it.
        """
        raise CompressionError(
            f"The pruning schedule {type(self).__name__} cannot be saved, because it "
            "does not define `get_config()`. Return from it the arguments of the "
            "constructor as a dict."
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the schedule again from what `get_config` returned."""
        return cls(**unwrap_config(config))

    def _should_prune_in_step(
        self, step: Tensor, begin_step: int, end_step: int, frequency: int
    ) -> Tensor:
        """Say whether `step` is a turn: every `frequency` steps, and both ends.

        The last step of the range is always a turn, so that the final sparsity is
        reached, and so is the first batch where `begin_step` is 0.
        """
        last = None if end_step < 0 else end_step
        turns = schedules.ConstantSparsity(0.0, begin_step, last, frequency)
        return turns.updates_at(ops.cast(step, "int32"))

    def _validate_step(
        self, begin_step: int, end_step: int, frequency: int, allow_negative_1: bool
    ) -> None:
        """Refuse a range of steps that cannot be."""
        for name, value in (
            ("begin_step", begin_step),
            ("end_step", end_step),
            ("frequency", frequency),
        ):
            if not isinstance(value, numbers.Integral) or isinstance(value, bool):
                raise ValueError(
                    f"`{name}` must be a whole number of training batches, got "
                    f"{value!r}. Round it, for example with int(...)."
                )
        if begin_step < 0:
            raise ValueError(
                f"`begin_step` must be 0 or more, got {begin_step}. "
                "Steps count training batches."
            )
        if end_step == -1 and not allow_negative_1:
            raise ValueError(
                "`end_step` cannot be -1 here: sparsity that grows needs a last step. "
                "Steps count batches: epochs * steps per epoch."
            )
        if end_step < -1:
            raise ValueError(
                f"`end_step` must be 0 or more, or -1 for no end, got {end_step}."
            )
        if end_step != -1 and end_step < begin_step:
            raise ValueError(
                "`end_step` must not come before `begin_step`, got "
                f"begin_step={begin_step} and end_step={end_step}."
            )
        if frequency <= 0:
            raise ValueError(f"`frequency` must be 1 or more batches, got {frequency}.")

    def _validate_sparsity(self, sparsity: float, variable_name: str) -> None:
        """Refuse a sparsity outside [0, 1)."""
        if not isinstance(sparsity, numbers.Real) or not 0.0 <= sparsity < 1.0:
            raise ValueError(
                f"`{variable_name}` must be in [0, 1), the fraction of zeros, got "
                f"{sparsity!r}."
            )

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


@keras.saving.register_keras_serializable(_PACKAGE)
class ConstantSparsity(PruningSchedule):
    """The same sparsity from `begin_step` to `end_step`.

    Args:
        target_sparsity: Fraction of zeros, in [0, 1).
        begin_step: Training batch at which pruning begins.
        end_step: Training batch after which the mask no longer changes; -1 means
            never.
        frequency: Batches between two mask updates.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> schedule = ConstantSparsity(0.5, begin_step=200)
        >>> [bool(schedule(step)[0]) for step in (100, 200, 250, 300)]
        [False, True, False, True]
    """

    target_sparsity: float
    begin_step: int
    end_step: int
    frequency: int

    def __init__(
        self,
        target_sparsity: float,
        begin_step: int,
        end_step: int = -1,
        frequency: int = 100,
    ) -> None:
        self._validate_step(begin_step, end_step, frequency, True)
        self._validate_sparsity(target_sparsity, "target_sparsity")
        self.target_sparsity = float(target_sparsity)
        self.begin_step = int(begin_step)
        self.end_step = int(end_step)
        self.frequency = int(frequency)

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(should_prune, target_sparsity)`."""
        turn = self._should_prune_in_step(
            step, self.begin_step, self.end_step, self.frequency
        )
        return turn, ops.convert_to_tensor(self.target_sparsity, "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the class name and the arguments."""
        return {"class_name": type(self).__name__, "config": dict(vars(self))}


@keras.saving.register_keras_serializable(_PACKAGE)
class PolynomialDecay(PruningSchedule):
    """Sparsity that moves from one value to another, fast first, then slowly.

    Args:
        initial_sparsity: Fraction of zeros at `begin_step`, in [0, 1).
        final_sparsity: Fraction of zeros at `end_step`, in [0, 1).
        begin_step: Training batch at which pruning begins.
        end_step: Training batch at which the final sparsity is reached. Equal to
            `begin_step`, the schedule jumps.
        power: Exponent of the curve; 1 is a straight line.
        frequency: Batches between two mask updates.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> schedule = PolynomialDecay(0.5, 0.8, begin_step=0, end_step=844)
        >>> [round(float(schedule(step)[1]), 4) for step in (0, 100, 844, 900)]
        [0.5, 0.5945, 0.8, 0.8]

    Reference:
        Zhu and Gupta, 2017, https://arxiv.org/abs/1710.01878
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    power: float
    frequency: int

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
        frequency: int = 100,
    ) -> None:
        self._validate_step(begin_step, end_step, frequency, False)
        self._validate_sparsity(initial_sparsity, "initial_sparsity")
        self._validate_sparsity(final_sparsity, "final_sparsity")
        if not isinstance(power, numbers.Real) or not power > 0:
            raise ValueError(f"`power` must be positive, got {power!r}.")
        self.initial_sparsity = float(initial_sparsity)
        self.final_sparsity = float(final_sparsity)
        self.power = power if isinstance(power, int) else float(power)
        self.begin_step = int(begin_step)
        self.end_step = int(end_step)
        self.frequency = int(frequency)

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(should_prune, sparsity)`."""
        turn = self._should_prune_in_step(
            step, self.begin_step, self.end_step, self.frequency
        )
        gone = ops.cast(ops.cast(step, "int32") - self.begin_step, "float32")
        length = self.end_step - self.begin_step
        jump = ops.cast(ops.greater_equal(gone, 0.0), "float32")
        progress = ops.clip(gone / length, 0.0, 1.0) if length else jump
        left = ops.power(1.0 - progress, float(self.power))
        change = self.initial_sparsity - self.final_sparsity
        return turn, ops.cast(change * left + self.final_sparsity, "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the class name and the arguments."""
        return {"class_name": type(self).__name__, "config": dict(vars(self))}


@keras.saving.register_keras_serializable(_PACKAGE)
@dataclasses.dataclass(frozen=True, eq=False)
class ScheduleAdapter(schedules.Schedule):
    """A `PruningSchedule` in the form that penjing's engine calls.

    Args:
        pruning_schedule: The schedule to follow.
    """

    pruning_schedule: PruningSchedule
    final_sparsity: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        # Once and here, because a schedule gives tensors without values in a
        # compiled step.
        step = _LATE if self.end_step is None else self.end_step
        final_sparsity = float(ops.convert_to_numpy(self(step)))
        object.__setattr__(self, "final_sparsity", final_sparsity)

    def __call__(self, step: int | Tensor) -> Tensor:
        """Sparsity asked for at `step`."""
        return ops.cast(self.pruning_schedule(step)[1], "float32")

    def updates_at(self, step: int | Tensor) -> Tensor:
        """Whether the masks are computed anew at `step`."""
        return ops.cast(self.pruning_schedule(step)[0], "bool")

    @property
    def begin_step(self) -> int:  # type: ignore[override]
        """First step of the schedule, as far as it tells."""
        return int(getattr(self.pruning_schedule, "begin_step", 0))

    @property
    def end_step(self) -> int | None:  # type: ignore[override]
        """Last step of the schedule; `None` if it has none or does not tell."""
        end_step = int(getattr(self.pruning_schedule, "end_step", -1))
        return None if end_step < 0 else end_step

    @property
    def frequency(self) -> int:  # type: ignore[override]
        """Steps between two computations of the masks, as far as it tells."""
        return int(getattr(self.pruning_schedule, "frequency", 1))

    def get_config(self) -> dict[str, Any]:
        """The schedule, serialized by Keras."""
        return {"pruning_schedule": serialize_schedule(self.pruning_schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Adapter from the dictionary that `get_config` gave."""
        return cls(keras.saving.deserialize_keras_object(config["pruning_schedule"]))


def serialize_schedule(schedule: Any) -> dict[str, Any]:
    """Serialize a schedule whose `get_config` may wrap the arguments once more."""
    config: dict[str, Any] = keras.saving.serialize_keras_object(schedule)
    return {**config, "config": unwrap_config(config["config"])}


def unwrap_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments within what a schedule's `get_config` returned.

    `config` is the arguments, or `{"class_name": ..., "config": arguments}`.
    """
    if set(config) == {"class_name", "config"}:
        return dict(config["config"])
    return dict(config)
