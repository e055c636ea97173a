"""How activations are rounded while a model trains: checked, frozen, JSON both ways."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import keras

from penjing.arguments import check_flag, check_integer
from penjing.numerics.grids import Grid

ACTIVATION_BITS = 8
LOWEST, HIGHEST = -128, 127
INT8 = Grid(granularity="per_tensor", symmetric=False)


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationConfig:
    """How activations are rounded while a model trains.

    Args:
        grid: 8 bits. Each tensor has one scale, as LiteRT's kernels take no others,
            whatever `granularity` says. With `symmetric=False` zero points use the
            whole range, which suits what ReLU gives.
        learn_ranges: Ranges are trained with the model; `False`: they follow the data
            by a moving average.
        calibrated: Ranges were found on data before training.
        begin_step: Training batches in which ranges are found, but nothing is rounded.
    """

    grid: Grid = INT8
    learn_ranges: bool = True
    calibrated: bool = False
    begin_step: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise ValueError(
                "`activations` must be None, 'int8' or a penjing.Grid, such as "
                "penjing.Grid(bits=8, symmetric=False), got "
                f"{self.grid!r} of type {type(self.grid).__name__}."
            )
        if self.grid.bits != ACTIVATION_BITS or self.grid.levels is not None:
            raise ValueError(
                f"`activations` must have {ACTIVATION_BITS} bits and no `levels`, got "
                f"{self.grid}: LiteRT's integer kernels take int8 activations. Use "
                "fewer bits for `weights` alone."
            )
        check_flag("learn_scale", self.learn_ranges)
        check_flag("calibrated", self.calibrated)
        check_integer("begin_step", self.begin_step, least=0)

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return {**dataclasses.asdict(self), "grid": self.grid.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Config from the dictionary that `get_config` gave."""
        return cls(**{**config, "grid": Grid.from_config(config["grid"])})
