"""What to round to which grid, and from when on: checked, frozen, JSON both ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import keras

from penjing.arguments import check_flag, check_integer
from penjing.engine.transforms.method_config import MethodConfig
from penjing.models.selection import Filter
from penjing.numerics.grids import Grid

LOWEST_INTEGER, HIGHEST_INTEGER = -127, 127


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizationSettings(MethodConfig):
    """What `penjing.quantize_aware` and its row in a recipe say in the same words.

    Args:
        learn_scale: Train the scales with the model (LSQ), those of activations too.
            `False`: they follow the weights, by least squares, and the ranges of
            activations, by a moving average.
        include: What to quantize: layers, or patterns matched against weight paths,
            layer paths and layer names (`"dense_1"`, `"conv*"`, `"*/kernel"`). Default:
            all kernels and embeddings, depthwise kernels too; no biases or norms.
        exclude: What to leave as it is, in the same form; wins over `include`.
    """

    method = "quantize_aware"

    learn_scale: bool = True
    include: Filter = None
    exclude: Filter = None

    def __post_init__(self) -> None:
        check_flag("learn_scale", self.learn_scale)


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizationConfig(QuantizationSettings):
    """What to round to which grid, and from when on.

    Args:
        weights: The grid. Fewer levels make smaller files: `Grid(levels=15,
            granularity="per_tensor")` costs little accuracy with some epochs of
            training. Default: 8 bits with a scale for each output channel; with one
            scale for each weight where the model is clustered, as a scale for each
            channel would split the shared values.
        begin_step: Leave the weights, and activations, as they are in the training
            steps before this one; the first scales are found in it. For models that are
            pruned first, in the same training.
        grids_by_layer: Pattern -> grid in place of `weights` for what it matches.
    """

    weights: Grid | None = None
    begin_step: int = 0
    grids_by_layer: Mapping[str, Grid] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("begin_step", self.begin_step, least=0)
        by_layer = self.grids_by_layer
        if by_layer is not None and not isinstance(by_layer, Mapping):
            raise ValueError(
                "`grids_by_layer` must be a mapping such as "
                "{'dense*': penjing.Grid(bits=4)}, got "
                f"{by_layer!r} of type {type(by_layer).__name__}."
            )
        if self.weights is not None:
            _check_weight_grid("weights", self.weights)
        for pattern, grid in (by_layer or {}).items():
            _check_weight_grid(f"grids_by_layer[{pattern!r}]", grid)

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields; a grid becomes the dictionary of its own."""
        config = super().get_config()
        if self.weights is not None:
            config["weights"] = self.weights.get_config()
        if self.grids_by_layer is not None:
            grids = self.grids_by_layer.items()
            config["grids_by_layer"] = {name: grid.get_config() for name, grid in grids}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Config from the dictionary that `get_config` gave."""
        config = dict(config)
        if config.get("weights") is not None:
            config["weights"] = Grid.from_config(config["weights"])
        if config.get("grids_by_layer") is not None:
            grids = config["grids_by_layer"].items()
            config["grids_by_layer"] = {n: Grid.from_config(grid) for n, grid in grids}
        return super().from_config(config)


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
