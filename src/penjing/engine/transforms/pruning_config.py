"""What to prune, how much of it, and when: checked, frozen, JSON both ways."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, get_args

import keras

from penjing.arguments import check_choice, check_integer
from penjing.engine.schedules import Schedule
from penjing.engine.transforms.method_config import MethodConfig
from penjing.models.selection import Filter
from penjing.numerics.importance import IMPORTANCES, Importance, ImportanceName
from penjing.numerics.patterns import NM, Pattern, Unstructured

Scope = Literal["layer", "global"]
Allocation = Literal["uniform", "erk"]


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PruningConfig(MethodConfig):
    """What to prune, how much of it, and when: the settings of `penjing.prune`.

    Args:
        schedule: Training step -> sparsity. In recipes, and with its `in_steps`, a
            `penjing.FractionalSchedule` counts in fractions of the training.
        scope: `"layer"`: every weight reaches the schedule's sparsity; `"global"`: all
            weights compete and reach it together, each keeping at least 5 % of its even
            share so that no layer dies.
        allocation: With scope "layer": `"uniform"`, or `"erk"` (Erdos-Renyi-Kernel),
            which cuts large layers more and reaches the sparsity over all of them.
        pattern: `penjing.Unstructured()` (default), `penjing.Block(rows, columns)` or
            `penjing.NM(n, m)`.
        importance: `"magnitude"`, `"normalized_magnitude"` (for the global scope),
            `"lamp"`, `"random"` (a control), or a function from a weight tensor to
            non-negative scores of its shape.
        include: What to prune: layers, or patterns matched against weight paths, layer
            paths and layer names (`"dense_1"`, `"conv*"`, `"*/kernel"`). Default: all
            that can be.
        exclude: What to leave whole, in the same form; wins over `include`.
        sparsity_by_layer: Pattern -> final sparsity in place of the schedule's for
            the weights that it matches; approached in proportion.
        keep_at_least: Weights that stay in the whole model, as far as the schedule's
            initial sparsity allows: small models have fewer to spare.
        l1: Penalty on the magnitudes of the kept weights, added to the loss: the file
            gets smaller at the same accuracy. 1e-6 to 1e-4 are typical.
    """

    method = "prune"

    schedule: Schedule = dataclasses.field(kw_only=False)
    scope: Scope = "layer"
    allocation: Allocation = "uniform"
    pattern: Pattern = Unstructured()
    importance: ImportanceName | Importance = "magnitude"
    include: Filter = None
    exclude: Filter = None
    sparsity_by_layer: Mapping[str, float] | None = None
    keep_at_least: int | None = None
    l1: float = 0.0

    def __post_init__(self) -> None:
        if self.pattern is None:
            object.__setattr__(self, "pattern", Unstructured())
        _check_type("schedule", self.schedule, Schedule, "penjing.PolynomialDecay(...)")
        _check_type("pattern", self.pattern, Pattern, "penjing.Block(4, 1)")
        check_choice("scope", self.scope, get_args(Scope))
        check_choice("allocation", self.allocation, get_args(Allocation))
        if not callable(self.importance):
            check_choice("importance", self.importance, tuple(IMPORTANCES))
        self.pattern.check_sparsity(self.schedule.final_sparsity)
        if self.keep_at_least is not None:
            check_integer("keep_at_least", self.keep_at_least, least=1)
        if not _is_penalty(self.l1):
            raise ValueError(
                f"`l1` must be a number of at least 0, got {self.l1!r}. Typical values "
                "lie between 1e-6 and 1e-4."
            )
        _check_combination(self)


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
    uneven = config.allocation != "uniform" or bool(by_layer)
    if config.scope == "global" and uneven:
        raise ValueError(
            'scope="global" lets the weights compete, so it goes with neither '
            '`allocation` nor `sparsity_by_layer`. Use scope="layer" for those.'
        )
    if isinstance(config.pattern, NM) and (uneven or config.scope == "global"):
        neither = "neither allocation='erk' nor `sparsity_by_layer`"
        raise ValueError(
            f"{config.pattern} gives every layer the same sparsity, so it goes with "
            + (f"{neither}." if uneven else 'scope="layer" only.')
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
