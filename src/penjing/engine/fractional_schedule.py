"""A schedule in fractions of the training, as recipes have it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NoReturn, get_args

import keras

from penjing.arguments import check_choice, check_fraction
from penjing.engine.schedules import (
    ConstantSparsity,
    CosineDecay,
    OneShot,
    PolynomialDecay,
    Schedule,
)

UPDATES_IN_RAMP = 25
MAX_FREQUENCY = 100
Kind = Literal["polynomial", "cosine", "constant", "one_shot"]


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FractionalSchedule(Schedule):
    """A schedule in fractions of the training, whatever its number of batches.

    Recipes take it as it is; elsewhere `in_steps` makes a schedule in steps of it.

    Args:
        kind: `"polynomial"`, `"cosine"`, `"constant"` or `"one_shot"`.
        initial_sparsity: Sparsity at `begin`; polynomial and cosine only.
        final_sparsity: Sparsity at `end` and from then on.
        begin: Fraction of all training batches at which pruning begins.
        end: Fraction at which the final sparsity is reached.
        power: Exponent of the polynomial.
        frequency: Batches between two updates of the masks; None takes about
            25 updates in the ramp and at most every 100 batches.

    Example:
        >>> schedule = FractionalSchedule(final_sparsity=0.8, begin=0.0, end=0.5)
        >>> schedule.in_steps(1000).end_step
        500
    """

    kind: Kind = "polynomial"
    initial_sparsity: float = 0.0
    final_sparsity: float
    begin: float = 0.0
    end: float = 0.5
    power: float = 3.0
    frequency: int | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("kind", self.kind, get_args(Kind))
        check_fraction("initial_sparsity", self.initial_sparsity, below_one=True)
        check_fraction("final_sparsity", self.final_sparsity, below_one=True)
        check_fraction("begin", self.begin, below_one=True)
        check_fraction("end", self.end)
        if self.frequency is not None and self.frequency < 1:
            raise ValueError(f"`frequency` must be at least 1, got {self.frequency}.")
        if self.kind in ("polynomial", "cosine") and self.begin >= self.end:
            raise ValueError(
                f"`end` must come after `begin`, got begin={self.begin} and "
                f"end={self.end}. Both are fractions of training."
            )
        if not self.power > 0.0:
            raise ValueError(f"`power` must be above 0, got {self.power}.")

    def in_steps(self, training_steps: int | None) -> Schedule:
        """The schedule in steps; its ramp is at least one step long.

        Args:
            training_steps: Batches in the whole training.

        Raises:
            ValueError: If they are not known.
        """
        if training_steps is None:
            self._refuse()
        begin = step_at(self.begin, training_steps)
        end = max(round(self.end * training_steps), begin + 1)
        most = min(MAX_FREQUENCY, (end - begin) // UPDATES_IN_RAMP)
        frequency = self.frequency or max(1, most)
        if self.kind == "one_shot":
            return OneShot(self.final_sparsity, step=max(begin, 1))
        if self.kind == "constant":
            return ConstantSparsity(
                self.final_sparsity, begin_step=begin, end_step=end, frequency=frequency
            )
        ramp: dict[str, Any] = {
            "initial_sparsity": self.initial_sparsity,
            "final_sparsity": self.final_sparsity,
            "begin_step": begin,
            "end_step": end,
            "frequency": frequency,
        }
        if self.kind == "cosine":
            return CosineDecay(**ramp)
        return PolynomialDecay(**ramp, power=self.power)

    def __call__(self, step: Any) -> NoReturn:
        """Refuse: a step says nothing where their number is not known."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            "A schedule in fractions of training needs the number of its batches. "
            "Pass `schedule.in_steps(epochs * steps_per_epoch)`."
        )


def step_at(fraction: float, training_steps: int) -> int:
    """The step at a fraction of training, which is never behind the last one."""
    return min(round(fraction * training_steps), training_steps - 1)
