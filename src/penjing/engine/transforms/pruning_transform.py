"""Pruning as a weight transform: masks that follow a schedule."""

from __future__ import annotations

import functools
import math
import operator
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.engine.transforms.state_renewal import renew
from penjing.engine.transforms.weight_transform import (
    ConfiguredTransform,
    Incoming,
    Values,
    check_values,
)
from penjing.errors import UnsupportedModelError
from penjing.models.selection import SelectedWeight, matches_layer
from penjing.numerics import Tensor
from penjing.numerics.importance import IMPORTANCES, Importance
from penjing.numerics.masks import (
    apply_mask,
    erk_sparsities,
    kept_count,
    lowest_kept,
    top_k_mask,
    top_k_masks,
)
from penjing.numerics.patterns import Pattern

Ranked: TypeAlias = Iterator[tuple[Tensor, Tensor]]  # masks of units and thresholds

LAYER_FLOOR = 0.05


@keras.saving.register_keras_serializable(package="penjing")
class Prune(ConfiguredTransform):
    """Masks of a model's weights, computed anew inside the training step."""

    order = 0
    display_name = "pruned"
    waits_for_training = True
    config: PruningConfig

    def __init__(self, config: PruningConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.masks: list[Any] = []
        self.thresholds: list[Any] = []
        self.scales: tuple[float, ...] = ()

    def create_state(
        self, weights: Sequence[SelectedWeight], incoming: Incoming
    ) -> None:
        """A mask and a threshold for each weight.

        Masks are boolean. Files of earlier versions have them as 1 and 0 in the
        weight's type, which Keras casts when it loads them.
        """
        known = (not self._restored and incoming()) or {}
        for weight in weights if known else ():
            self._check_values(weight, known[weight.path])
        self.scales = self._schedule_scales(weights)
        for weight in weights:
            self.masks.append(self.add_mask(weight))
            self.thresholds.append(
                self.add_state(
                    weight.path,
                    "threshold",
                    shape=(),
                    dtype="float32",
                    initializer="zeros",
                )
            )

    def update(self, step: int | Tensor, values: Values) -> None:
        """Compute the masks anew where the schedule says so.

        Masked weights count as zeros: their old values would else come back, untrained,
        in place of weights that are in use. Frozen ones keep their masks, and have no
        part in the ranking.
        """
        due = self.config.schedule.updates_at(step)
        places = [i for i, _ in self.training_weights()]
        if due is False or not places:
            return
        weights = [weight for _, weight in self.training_weights()]
        raw = [ops.stop_gradient(values[weight.path]) for weight in weights]

        def compute(state: Sequence[Tensor]) -> list[Tensor]:
            return self._new_state(step, places, list(zip(raw, state, strict=False)))

        state = [
            variables[i] for variables in (self.masks, self.thresholds) for i in places
        ]
        renew(state, due, compute)

    def apply(self, values: Values, training: bool) -> Values:
        """Weights with zeros where the mask drops them."""
        every = zip(self.weights_by_path, self.masks, strict=True)
        masks = [(path, mask) for path, mask in every if path in values]
        if training:
            return {
                path: apply_mask(values[path], ops.convert_to_tensor(mask.value))
                for path, mask in masks
            }
        return {
            path: ops.where(
                ops.convert_to_tensor(mask.value),
                values[path],
                ops.zeros_like(values[path]),
            )
            for path, mask in masks
        }

    def penalty(self) -> Tensor | None:
        """The sum of the magnitudes of the kept weights, times `l1`."""
        if not self.config.l1:
            return None
        masks = zip(self.weights_by_path.values(), self.masks, strict=True)
        sums = [
            ops.sum(
                ops.abs(ops.cast(weight.variable.value, "float32"))
                * ops.cast(mask.value, "float32")
            )
            for weight, mask in masks
        ]
        return self.config.l1 * functools.reduce(operator.add, sums)

    def persist(self, values: Values) -> Values:
        """Masked weights; zero is what they are."""
        return self.apply(values, training=False)

    def pending(self, last_step: int) -> str | None:
        """The sparsity reached by `last_step`, where the schedule ends after it."""
        last_step -= self.start_step
        schedule = self.config.schedule
        end = schedule.begin_step if schedule.end_step is None else schedule.end_step
        if last_step >= end:
            return None
        reached = 0.0
        if last_step >= max(schedule.begin_step, 1):
            since = (last_step - schedule.begin_step) % schedule.frequency
            last_update = max(last_step - since, schedule.begin_step, 1)
            reached = float(schedule(last_update))
        if math.isclose(reached, schedule.final_sparsity, abs_tol=1e-6):
            return None
        return (
            f"the pruning schedule ends at step {end + self.start_step}, so a sparsity "
            f"of {reached:.3g} will be reached instead of {schedule.final_sparsity:.3g}"
        )

    def obstacle(self, weight: SelectedWeight) -> str | None:
        """Why the pattern does not fit a weight, or `None`."""
        return self.config.pattern.obstacle(
            *weight.matrix_shape, input_channels=weight.input_channels
        )

    def _pattern(self, weight: SelectedWeight) -> Pattern:
        return self.config.pattern.for_channels(weight.input_channels)

    def _importance(self, path: str) -> Importance:
        importance = self.config.importance
        if callable(importance):
            return importance
        if importance == "random":
            seed = zlib.crc32(path.encode())
            return functools.partial(IMPORTANCES[importance], seed=seed)  # type: ignore[call-arg]
        return IMPORTANCES[importance]

    def _check_values(self, weight: SelectedWeight, values: np.ndarray) -> None:
        check_values(weight, values)
        if not callable(self.config.importance):
            return
        importance = self._importance(weight.path)
        scores = ops.convert_to_numpy(importance(ops.convert_to_tensor(values)))
        if scores.shape != values.shape or not (scores >= 0).all():
            raise ValueError(
                f"`importance` must give non-negative scores of the weight's shape "
                f"{values.shape}, got shape {scores.shape} and a minimum of "
                f"{scores.min()} for {weight.path!r}."
            )

    def _schedule_scales(self, weights: Sequence[SelectedWeight]) -> tuple[float, ...]:
        """Final sparsity of each weight over the schedule's final sparsity."""
        final = self.config.schedule.final_sparsity
        targets = [self._pattern(weight).sparsity_reached(final) for weight in weights]
        if self.config.allocation == "erk":
            targets = erk_sparsities([weight.shape for weight in weights], final)
        for pattern, sparsity in (self.config.sparsity_by_layer or {}).items():
            hits = [
                i
                for i, weight in enumerate(weights)
                if matches_layer(weight.layer, weight.path, pattern)
            ]
            if not hits:
                raise _unmatched_sparsity(pattern, weights)
            for i in hits:
                targets[i] = sparsity
        if self.config.sparsity_by_layer:
            share = self._share_that_may_fall(weights, targets)
            targets = [share * target for target in targets]
        return tuple(target / final if final else 1.0 for target in targets)

    def _share_that_may_fall(
        self, weights: Sequence[SelectedWeight], targets: Sequence[float]
    ) -> float:
        """What of the zeros that are asked for leaves `keep_at_least` weights."""
        sizes = [weight.size for weight in weights]
        asked = sum(map(operator.mul, sizes, targets))
        most = sum(sizes) - (self.config.keep_at_least or 0)
        return min(1.0, max(most, 0) / asked) if asked else 1.0

    def _new_state(
        self,
        step: int | Tensor,
        places: Sequence[int],
        state: Sequence[tuple[Tensor, Tensor]],
    ) -> list[Tensor]:
        """Masks, then thresholds, of the weights at some places.

        `state` are their values and their masks until now.
        """
        sparsity = self.config.schedule(ops.convert_to_tensor(step, "int32"))
        every = list(self.weights_by_path.values())
        weights = [every[i] for i in places]
        scored = (
            self._unit_scores(weight, *pair)
            for weight, pair in zip(weights, state, strict=True)
        )
        if self._is_global:
            ranked = self._rank_globally(list(scored), sparsity)
        else:
            ranked = _rank_by_layer(scored, [self.scales[i] for i in places], sparsity)
        masks, thresholds = [], []
        for weight, (unit_mask, threshold) in zip(weights, ranked, strict=True):
            matrix = self._pattern(weight).weight_mask(unit_mask, weight.matrix_shape)
            masks.append(weight.from_matrix(matrix))
            thresholds.append(threshold)
        return [*masks, *thresholds]

    def _unit_scores(
        self, weight: SelectedWeight, value: Tensor, mask: Tensor
    ) -> Tensor:
        """Scores of what falls together in a weight, dropped values being zeros."""
        scores = self._importance(weight.path)(apply_mask(value, mask))
        matrix = weight.to_matrix(ops.cast(scores, "float32"))
        return self._pattern(weight).unit_scores(matrix)

    @property
    def _is_global(self) -> bool:
        return self.config.scope == "global"

    def _rank_globally(
        self, units: Sequence[Tensor], sparsity: float | Tensor
    ) -> Ranked:
        """One ranking for all, after each weight's best few are set aside for it."""
        sizes = [_size(unit) for unit in units]
        density = 1.0 - ops.cast(sparsity, "float32")
        least = []
        for size in sizes:
            floor = ops.cast(ops.floor(LAYER_FLOOR * density * size), "int32")
            least.append(ops.clip(floor, 1, size))
        kept = ops.maximum(kept_count(sum(sizes), sparsity), len(sizes))
        for unit, mask in zip(units, top_k_masks(units, kept, least), strict=True):
            yield mask, lowest_kept(unit, mask)


def _rank_by_layer(
    units: Iterable[Tensor], scales: Sequence[float], sparsity: float | Tensor
) -> Ranked:
    for unit, scale in zip(units, scales, strict=True):
        mask = top_k_mask(unit, kept_count(_size(unit), sparsity * scale))
        yield mask, lowest_kept(unit, mask)


def _size(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape))


def _unmatched_sparsity(
    pattern: str, weights: Sequence[SelectedWeight]
) -> UnsupportedModelError:
    names = [weight.path for weight in weights]
    return UnsupportedModelError(
        f"`sparsity_by_layer` names {pattern!r}, which matches no pruned weight. The "
        f"pruned weights are {', '.join(map(repr, names))}."
    )
