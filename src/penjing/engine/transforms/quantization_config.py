"""What to round to which grid, and from when on: checked, frozen, JSON both ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import keras

from penjing.arguments import check_flag, check_integer
from penjing.models.selection import Filter, filter_names
from penjing.numerics.grids import Grid

LOWEST_INTEGER, HIGHEST_INTEGER = -127, 127


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """What to round to which grid, and from when on.

    Args:
        weights: Grid of the weights: symmetric, within -127 to 127, which is what
            LiteRT's kernels take.
        learn_scale: Scales are trained with the model; `False`: they follow the
            weights, by least squares.
        begin_step: Training steps before it leave the weights as they are.
        include: Weights to quantize; see `penjing.quantize_aware`.
        exclude: Weights to leave as they are; see `penjing.quantize_aware`.
        grids_by_layer: Pattern or layer name -> grid of the weights that it matches,
            in place of `weights`.
    """

    weights: Grid = dataclasses.field(default_factory=Grid)
    learn_scale: bool = True
    begin_step: int = 0
    include: Filter = None
    exclude: Filter = None
    grids_by_layer: Mapping[str, Grid] | None = None

    def __post_init__(self) -> None:
        check_flag("learn_scale", self.learn_scale)
        check_integer("begin_step", self.begin_step, least=0)
        by_layer = self.grids_by_layer
        if by_layer is not None and not isinstance(by_layer, Mapping):
            raise ValueError(
                "`grids_by_layer` must be a mapping such as "
                "{'dense*': penjing.Grid(bits=4)}, got "
                f"{by_layer!r} of type {type(by_layer).__name__}."
            )
        _check_weight_grid("weights", self.weights)
        for pattern, grid in (by_layer or {}).items():
            _check_weight_grid(f"grids_by_layer[{pattern!r}]", grid)

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields; layers in `include` and `exclude` become their names."""
        config = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        for name in ("include", "exclude"):
            config[name] = filter_names(config[name])
        config["weights"] = self.weights.get_config()
        config["begin_step"] = int(self.begin_step)
        if self.grids_by_layer is not None:
            config["grids_by_layer"] = {
                pattern: grid.get_config()
                for pattern, grid in self.grids_by_layer.items()
            }
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Config from the dictionary that `get_config` gave."""
        config = dict(config)
        config["weights"] = Grid.from_config(config["weights"])
        if config.get("grids_by_layer") is not None:
            config["grids_by_layer"] = {
                pattern: Grid.from_config(grid)
                for pattern, grid in config["grids_by_layer"].items()
            }
        return cls(**config)


def _check_weight_grid(name: str, grid: object) -> None:
    if not isinstance(grid, Grid):
        raise ValueError(
            f"`{name}` must be a penjing.Grid, such as penjing.Grid(bits=8), got "
            f"{grid!r} of type {type(grid).__name__}."
        )
    if not grid.symmetric:
        raise ValueError(
            f"`{name}` must be symmetric, got {grid}: LiteRT's kernels take weights "
            "whose zero point is 0. Leave `symmetric` out."
        )
    if grid.lowest < LOWEST_INTEGER or grid.highest > HIGHEST_INTEGER:
        raise ValueError(
            f"`{name}` must stay within {LOWEST_INTEGER} to {HIGHEST_INTEGER}, got "
            f"{grid.lowest} to {grid.highest}: LiteRT's kernels take no other weights. "
            "Use 2 to 8 bits and leave `narrow_range` out."
        )
