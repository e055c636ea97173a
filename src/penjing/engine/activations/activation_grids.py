"""Ranges of activations: state that trains with the model, and the rounding."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from penjing.engine.activations.activation_config import (
    HIGHEST,
    LOWEST,
    ActivationConfig,
)
from penjing.engine.activations.activation_hooks import (
    Around,
    Rounding,
    rounded_model,
)
from penjing.engine.activations.activation_plan import (
    ActivationPlan,
    plan_activations,
    restored_plan,
)
from penjing.errors import CompressionError
from penjing.models.layer_specs import find_weight_specs
from penjing.models.stand_ins import stand_in
from penjing.numerics import Tensor
from penjing.numerics.grids import (
    fake_quantize,
    lsq_gradient_scale,
    range_to_scale,
    relative_scale,
)

OBSERVED_BATCHES = 100
MOMENTUM = 0.99


@keras.saving.register_keras_serializable(package="penjing")
class ActivationGrids(keras.layers.Layer):
    """Rounds the tensors between the operations of a model, inside its forward pass.

    Each group of tensors that share a range has its least and largest value, averaged
    over batches; with `learn_ranges` the first 100 batches alone count, and a trained
    factor, which starts at 1, widens or narrows the range. Nothing is rounded before
    the config's `begin_step`, nor before the first training batch of a model that was
    not calibrated.
    """

    def __init__(
        self,
        config: ActivationConfig,
        *,
        saved_plan: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.config = config
        # As text: Keras would wrap a dictionary and look for weights in it.
        self._saved_plan = None if saved_plan is None else json.dumps(saved_plan)
        self.plan: ActivationPlan | None = None
        self.ranges: dict[str, tuple[Any, Any]] = {}
        self.factors: dict[str, Any] = {}
        self._batches: Any = None
        self._observer: Callable[[Tensor, str], None] | None = None

    def attach(self, model: keras.Model, quantized: Collection[int]) -> None:
        """Plan the groups of a built model, a graph, and create their state.

        `quantized` has the `id` of each weight that lies on a grid. A model that is no
        graph is a CompressionError. A plan that was saved is taken as it is.
        """
        if self._saved_plan is not None:
            self.plan = restored_plan(model, json.loads(self._saved_plan))
        else:
            self.plan = plan_activations(model, quantized)
        if self.plan is None:
            raise CompressionError(
                f"The model {model.name!r} runs code of its own, so the tensors "
                "between its layers cannot be rounded while it trains."
            )
        for group in self.plan.groups:
            self.ranges[group] = (
                self._add_number(group, "minimum"),
                self._add_number(group, "maximum"),
            )
            if self.config.learn_ranges:
                self.factors[group] = self._add_number(
                    group, "range_factor", trainable=True, initializer="ones"
                )
        self._batches = self.add_weight(
            name="batches",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def run(self, model: keras.Model, args: Any, kwargs: Any, *, training: bool) -> Any:
        """Call the attached model with its tensors rounded.

        `training` says whether ranges follow this batch. Chances that are outputs are
        not rounded then: the loss of one that became zero has no slope.
        """
        as_given = self._known_plan().ends if training else ()
        seen = _Seen(self) if training and not self._settled else None

        def rounded(
            values: Tensor,
            group: str,
            *,
            halves_away: bool = False,
            again: bool = False,
        ) -> Tensor:
            dtype = keras.backend.standardize_dtype(values.dtype)
            if "float" not in dtype or group in as_given:
                return values
            if self._observer is not None:
                self._observer(values, group)
                return values
            values = ops.cast(values, "float32")
            return ops.cast(self._rounded(values, group, seen, halves_away), dtype)

        outputs = self.rounding(model, rounded)(*args, **kwargs)
        if seen is not None:
            seen.store()
        return outputs

    def observed_by(self, observer: Callable[[Tensor, str], None]) -> ActivationGrids:
        """A stand-in that lets `observer` see tensors and their groups; rounds none."""
        return stand_in(self, _observer=observer)

    def rounding(
        self, model: keras.Model, rounding: Rounding, around: Around | None = None
    ) -> keras.Model:
        """What runs as the model, with a function of one's own that rounds.

        It is for one call. `around` takes an operation and its call, already rounded,
        and gives what is called.
        """
        return rounded_model(model, self._known_plan(), rounding, around)

    def rounded_biases(
        self, weight_scales: Mapping[int, Tensor]
    ) -> list[tuple[Any, Tensor]]:
        """Biases as the file has them: multiples of the two scales before them.

        From `id` of a weight -> its scale, zero where it has not begun, to pairs of a
        bias and its values.
        """
        if self._observer is not None:
            return []
        groups: dict[int, set[str]] = {}
        owners: dict[int, Any] = {}
        for site in self._known_plan().sites:
            if site.bias_input is not None and site.operation.use_bias:
                groups.setdefault(id(site.operation), set()).add(site.bias_input)
                owners[id(site.operation)] = site.operation
        return [
            (layer.bias, self._rounded_bias(layer, groups[key].pop(), weight_scales))
            for key, layer in owners.items()
            if len(groups[key]) == 1  # else a shared layer has several in the file
        ]

    def _rounded_bias(
        self, layer: Any, group: str, weight_scales: Mapping[int, Tensor]
    ) -> Tensor:
        bias = ops.convert_to_tensor(layer.bias.value)
        values = ops.stop_gradient(ops.cast(bias, "float32"))
        weight = getattr(layer, find_weight_specs(layer)[-1].attribute)
        fixed = self._known_plan().fixed.get(group)
        scale = fixed[0] if fixed else self._scale(group, *self._stored(group))[0]
        step = ops.stop_gradient(ops.reshape(weight_scales[id(weight)], (-1,)) * scale)
        if not self._always_rounds:
            step = ops.where(self._rounds(), step, 0.0)
        safe = ops.where(step > 0, step, ops.ones_like(step))
        rounded = ops.where(step > 0, ops.round(values / safe) * safe, values)
        return bias + ops.cast(rounded - values, bias.dtype)

    def grids(self) -> dict[str, tuple[float, int]]:
        """Scale and zero point of each group, as they are now.

        Before any batch was seen this is a CompressionError.
        """
        if not self.is_ready:
            raise CompressionError(
                "The ranges of the activations are not known yet. Train the model, or "
                "pass `calibration_data` to penjing.quantize_aware."
            )
        grids = dict(self._known_plan().fixed)
        for group in self._known_plan().groups:
            scale, zero_point = self._scale(group, *self._stored(group))
            grids[group] = (
                float(ops.convert_to_numpy(scale)),
                int(ops.convert_to_numpy(zero_point)),
            )
        return grids

    @property
    def is_ready(self) -> bool:
        """Whether ranges were found, on calibration data or in training."""
        if self._always_rounds:
            return True
        return self.built and bool(ops.convert_to_numpy(self._rounds()))

    def set_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Store ranges that were found on data: group -> least and largest value."""
        for group, found in ranges.items():
            for variable, value in zip(self.ranges[group], found, strict=True):
                variable.assign(np.float32(value))
        if self.config.begin_step == 0:
            self._batches.assign(OBSERVED_BATCHES)

    def get_config(self) -> dict[str, Any]:
        """The config, serialized by Keras, and the plan once there is one."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "config": keras.saving.serialize_keras_object(self.config),
            "saved_plan": self.plan and self.plan.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Layer from the dictionary that `get_config` gave."""
        config = dict(config)
        config["config"] = keras.saving.deserialize_keras_object(config["config"])
        return cls(**config)

    @property
    def _settled(self) -> bool:
        return self._always_rounds and self.config.learn_ranges

    @property
    def _always_rounds(self) -> bool:
        return self.config.calibrated and self.config.begin_step == 0

    def _known_plan(self) -> ActivationPlan:
        if self.plan is None:
            raise CompressionError(
                "The model is not built, so it has no activations yet. Call it on a "
                "batch first."
            )
        return self.plan

    def _add_number(
        self,
        group: str,
        name: str,
        *,
        trainable: bool = False,
        initializer: str = "zeros",
    ) -> Any:
        return self.add_weight(
            name=f"{group.replace('/', '>').replace(':', '>')}>{name}",
            shape=(),
            dtype="float32",
            initializer=initializer,
            trainable=trainable,
            autocast=False,
            aggregation="mean",
        )

    def _stored(self, group: str) -> tuple[Tensor, Tensor]:
        minimum, maximum = self.ranges[group]
        return ops.convert_to_tensor(minimum.value), ops.convert_to_tensor(
            maximum.value
        )

    def _scale(
        self, group: str, minimum: Tensor, maximum: Tensor
    ) -> tuple[Tensor, Tensor]:
        scale, zero_point = range_to_scale(
            minimum, maximum, LOWEST, HIGHEST, symmetric=self.config.grid.symmetric
        )
        if group in self.factors:
            factor = ops.convert_to_tensor(self.factors[group].value)
            scale = relative_scale(scale, factor)
        return scale, zero_point

    def _rounded(
        self, values: Tensor, group: str, seen: _Seen | None, halves_away: bool
    ) -> Tensor:
        fixed = self._known_plan().fixed.get(group)
        if fixed is not None:
            rounded = fake_quantize(values, np.float32(fixed[0]), fixed[1], *_ENDS)
            return self._where_begun(rounded, values, seen)
        ends = self._stored(group)
        if seen is not None:
            ends = seen.observe(group, values, ends)
        scale, zero_point = self._scale(group, *ends)
        factor = 0.0
        if group in self.factors:
            size = int(np.prod([n or 1 for n in values.shape[1:]]))
            factor = lsq_gradient_scale(size, HIGHEST)
        raw = values
        if halves_away:
            values = _halves_moved_away(values, scale, zero_point)
        rounded = fake_quantize(
            values, scale, zero_point, *_ENDS, scale_gradient=factor
        )
        return self._where_begun(rounded, raw, seen)

    def _where_begun(
        self, rounded: Tensor, values: Tensor, seen: _Seen | None
    ) -> Tensor:
        """The rounded values, or the given ones where rounding has not begun."""
        if self._always_rounds or (seen is not None and self.config.begin_step == 0):
            return rounded
        return ops.where(self._rounds(seen is not None), rounded, values)

    def _rounds(self, in_training: bool = False) -> Tensor:
        """Whether rounding has begun; the batch that is trained on counts."""
        batches = ops.convert_to_tensor(self._batches.value) + int(in_training)
        return batches > self.config.begin_step


def _halves_moved_away(values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Values from which halves round away from the integer 0, not to the even one."""
    shift = ops.cast(zero_point, "float32")
    integers = ops.stop_gradient(values / scale) + shift
    return values + ops.stop_gradient(scale) * _TIE * ops.sign(integers)


_TIE = 1e-3  # of a step: more than float32 loses, less than the mean of a window has
_ENDS = (LOWEST, HIGHEST)


class _Seen:
    """Least and largest values of the groups in one training batch."""

    def __init__(self, grids: ActivationGrids) -> None:
        self._grids = grids
        self._ends: dict[str, tuple[Tensor, Tensor]] = {}
        self._batches = ops.convert_to_tensor(grids._batches.value)

    def observe(
        self, group: str, values: Tensor, stored: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Note the values; give the range to round to in this batch."""
        values = ops.stop_gradient(values)
        ends = ops.min(values), ops.max(values)
        if group in self._ends:
            before = self._ends[group]
            ends = ops.minimum(before[0], ends[0]), ops.maximum(before[1], ends[1])
        self._ends[group] = ends
        is_first = self._batches == 0
        return ops.where(is_first, ends[0], stored[0]), ops.where(
            is_first, ends[1], stored[1]
        )

    def store(self) -> None:
        """Move the ranges towards those of the batch."""
        count = ops.cast(self._batches, "float32")
        rate = ops.maximum(1.0 / (count + 1.0), 1.0 - MOMENTUM)
        if self._grids.config.learn_ranges:
            last = self._grids.config.begin_step + OBSERVED_BATCHES
            rate = ops.where(self._batches < last, rate, 0.0)
        one = 1
        for group, ends in self._ends.items():
            for variable, new in zip(self._grids.ranges[group], ends, strict=True):
                old = ops.convert_to_tensor(variable.value)
                variable.assign(old + rate * (new - old))
            # Counted with the data: TensorFlow runs a step that finds none.
            one = 1 + ops.cast(ops.zeros_like(ends[0]), "int32")
        self._grids._batches.assign(self._batches + one)
