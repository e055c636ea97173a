"""What to prune, how much of it, and when: checked, frozen, JSON both ways."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import keras

from penjing.arguments import check_choice
from penjing.engine.schedules import Schedule
from penjing.models.selection import Filter, filter_names
from penjing.numerics.importance import IMPORTANCES, Importance
from penjing.numerics.patterns import NM, Pattern, Unstructured

SCOPES = ("layer", "global")
ALLOCATIONS = ("uniform", "erk")


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PruningConfig:
    """What to prune, how much of it, and when.

    Args:
        schedule: Step -> sparsity.
        scope: `"layer"`: every weight reaches the sparsity by itself; `"global"`: all
            weights compete, so that layers with redundant weights lose more.
        allocation: With scope "layer": `"uniform"`, or `"erk"`, which cuts large
            layers more.
        pattern: Which weights fall together.
        importance: Name of a score (`"magnitude"`, `"normalized_magnitude"`, `"lamp"`,
            `"random"`) or a function from a weight tensor to non-negative scores of
            its shape.
        include: Weights to prune; see `penjing.prune`.
        exclude: Weights to leave whole; see `penjing.prune`.
        sparsity_by_layer: Pattern or layer name -> final sparsity of the weights
            that it matches, in place of the schedule's.
        l1: Added to the loss for every unit of the sum of the magnitudes of the weights
            that are kept: what the loss can spare falls first, and what is kept
            takes fewer bytes.
    """

    schedule: Schedule
    scope: str = "layer"
    allocation: str = "uniform"
    pattern: Pattern = dataclasses.field(default_factory=Unstructured)
    importance: str | Importance = "magnitude"
    include: Filter = None
    exclude: Filter = None
    sparsity_by_layer: Mapping[str, float] | None = None
    l1: float = 0.0

    def __post_init__(self) -> None:
        _check_type("schedule", self.schedule, Schedule, "penjing.PolynomialDecay(...)")
        _check_type("pattern", self.pattern, Pattern, "penjing.Block(4, 1)")
        check_choice("scope", self.scope, SCOPES)
        check_choice("allocation", self.allocation, ALLOCATIONS)
        if not callable(self.importance):
            check_choice("importance", self.importance, tuple(IMPORTANCES))
        self.pattern.check_sparsity(self.schedule.final_sparsity)
        if not _is_penalty(self.l1):
            raise ValueError(
                f"`l1` must be a number of at least 0, got {self.l1!r}. Typical values "
                "lie between 1e-6 and 1e-4."
            )
        _check_combination(self)

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields; layers in `include` and `exclude` become their names."""
        config = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        for name in ("schedule", "pattern", "importance"):
            config[name] = keras.saving.serialize_keras_object(config[name])
        for name in ("include", "exclude"):
            config[name] = filter_names(config[name])
        if self.sparsity_by_layer is not None:
            config["sparsity_by_layer"] = dict(self.sparsity_by_layer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Config from the dictionary that `get_config` gave."""
        config = dict(config)
        for name in ("schedule", "pattern", "importance"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def _check_type(name: str, value: object, kind: type, example: str) -> None:
    if not isinstance(value, kind):
        raise ValueError(
            f"`{name}` must be a {kind.__module__.split('.')[0]} {kind.__name__}, such "
            f"as {example}, got {value!r} of type {type(value).__name__}."
        )


def _is_penalty(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < math.inf


def _check_combination(config: PruningConfig) -> None:
    by_layer = config.sparsity_by_layer
    if by_layer is not None and not isinstance(by_layer, Mapping):
        raise ValueError(
            "`sparsity_by_layer` must be a mapping such as {'dense*': 0.9}, got "
            f"{by_layer!r} of type {type(by_layer).__name__}."
        )
    if config.scope == "global":
        if config.allocation != "uniform" or by_layer:
            raise ValueError(
                'scope="global" lets the weights compete, so it goes with neither '
                '`allocation` nor `sparsity_by_layer`. Use scope="layer" for those.'
            )
        if isinstance(config.pattern, NM):
            raise ValueError(
                f"{config.pattern} gives every layer the same sparsity, so it goes "
                'with scope="layer" only.'
            )
    if isinstance(config.pattern, NM) and (config.allocation != "uniform" or by_layer):
        raise ValueError(
            f"{config.pattern} gives every layer the same sparsity, so it goes with "
            "neither allocation='erk' nor `sparsity_by_layer`."
        )
    for pattern, sparsity in (by_layer or {}).items():
        number = isinstance(sparsity, int | float) and not isinstance(sparsity, bool)
        if not number or not 0 <= sparsity < 1:
            raise ValueError(
                "Sparsities in `sparsity_by_layer` must be numbers in [0, 1), got "
                f"{sparsity!r} for {pattern!r}."
            )
    if by_layer and config.schedule.final_sparsity == 0:
        raise ValueError(
            "`sparsity_by_layer` follows the schedule in proportion, so the schedule's "
            "final sparsity must be above 0."
        )
