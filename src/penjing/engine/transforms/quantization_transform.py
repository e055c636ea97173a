"""Quantization-aware training as a weight transform: grids whose scale is trained."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.transforms.quantization_config import QuantizationConfig
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
from penjing.numerics.grids import (
    Grid,
    fake_quantize,
    least_squares_scale,
    lsq_gradient_scale,
    mse_scale,
    relative_scale,
)


@keras.saving.register_keras_serializable(package="penjing")
class FakeQuantize(ConfiguredTransform):
    """Weights rounded to grids, inside the training step, with learned scales.

    Each weight has a reference scale, found by its squared error when quantization
    begins; a trained scale is that times a trained factor, which starts at 1. So an
    optimizer with steps of equal length, such as Adam, moves scales of all sizes alike,
    and no scale can become zero or negative (`relative_scale`). With a `begin_step`,
    references are zero until it, and the values pass as they are. Frozen weights are
    rounded too; their scales stay as they were found.
    """

    order = 2
    display_name = "quantized"
    spares_weights = False
    takes_frozen = True
    config: QuantizationConfig

    def __init__(self, config: QuantizationConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.waits_for_training = config.begin_step > 0
        self.references: list[Any] = []
        self.factors: list[Any] = []
        self.grids: tuple[Grid, ...] = ()

    def create_state(
        self, weights: Sequence[SelectedWeight], incoming: Incoming
    ) -> None:
        """A reference scale for each weight, and the factor that is trained.

        Of shape `()`, or of the weight's rank with length 1 on the input axes.
        """
        _check_patterns(weights, self.config.grids_by_layer)
        values = None if self._restored else incoming()
        if values is None and not self._restored:
            # Made by the first batch, whose step has their values.
            begin = max(self.config.begin_step, 1)
            self.config = dataclasses.replace(self.config, begin_step=begin)
            self.waits_for_training = True
        self.grids = self._grids_of(weights)
        for weight, grid in zip(weights, self.grids, strict=True):
            reference = self._add_scale(weight, grid)
            if values is not None:
                check_values(weight, values[weight.path])
                if self.config.begin_step == 0:
                    reference.assign(_best_scale(weight, grid, values[weight.path]))

    def update(self, step: int | Tensor, values: Values) -> None:
        """Find the first scales when quantization begins; follow the weights after it.

        Scales follow only where they are not learned.
        """
        begin = int(self.config.begin_step)
        if begin == 0 and self.config.learn_scale:
            return
        raw = [ops.stop_gradient(values[path]) for path in self.weights_by_path]
        weights = list(zip(self.weights_by_path.values(), self.grids, raw, strict=True))

        def follow(old: Sequence[Tensor]) -> Sequence[Tensor]:
            if self.config.learn_scale:
                return old
            return [
                _following_scale(*weight, scale)
                if weight[0].variable.trainable
                else scale
                for weight, scale in zip(weights, old, strict=True)
            ]

        renew(
            self.references,
            False if begin == 0 else step == begin,
            lambda old: [_best_scale(*weight) for weight in weights],
            follow,
        )

    def apply(self, values: Values, training: bool) -> Values:
        """Weights on their grids."""
        return {
            path: self._quantized(i, weight, values[path])
            for i, (path, weight) in enumerate(self.weights_by_path.items())
            if path in values
        }

    def trained_state(self) -> Iterable[tuple[str, Any]]:
        """The factor of each weight's scale."""
        return zip(self.weights_by_path, self.factors, strict=False)

    def scales(self) -> dict[str, Tensor]:
        """Path of each weight -> its scale now, zero where it has not begun."""
        return {
            path: ops.copy(_scale(*self._scale_state(i)))
            for i, path in enumerate(self.weights_by_path)
        }

    def pending(self, last_step: int) -> str | None:
        """When quantization begins, where that is after `last_step`."""
        begin = self.config.begin_step
        if last_step - self.start_step >= begin:
            return None
        return (
            f"quantization begins at step {begin + self.start_step}, so no weight "
            "will be on its grid"
        )

    def obstacle(self, weight: SelectedWeight) -> str | None:
        """Why no grid suits a weight, or `None`."""
        dtype = keras.backend.standardize_dtype(weight.variable.dtype)
        if dtype != "float32":
            return f"its type is {dtype}, in which no value lies exactly on a grid"
        if getattr(weight.layer, "lora_enabled", False):
            return "its layer adds a low-rank adapter (LoRA) to it, which is no grid's"
        per_channel = self._grids_of([weight])[0].granularity == "per_channel"
        if per_channel and weight.matrix_shape[0] == 1:
            return (
                "a channel of it has one value, which needs no scale of its own; "
                'granularity="per_tensor" takes it'
            )
        return None

    def _grids_of(self, weights: Sequence[SelectedWeight]) -> tuple[Grid, ...]:
        grids = [self.config.weights or Grid()] * len(weights)
        for pattern, grid in (self.config.grids_by_layer or {}).items():
            for i, weight in enumerate(weights):
                if matches_layer(weight.layer, weight.path, pattern):
                    grids[i] = grid
        return tuple(grids)

    def _add_scale(self, weight: SelectedWeight, grid: Grid) -> Any:
        """Add the reference, and the factor where scales are trained."""
        shape = _scale_shape(weight, grid)
        reference = self.add_state(
            weight.path,
            "scale",
            shape=shape,
            dtype="float32",
            initializer="zeros" if self.config.begin_step else "ones",
        )
        self.references.append(reference)
        if self.config.learn_scale:
            factor = self.add_state(
                weight.path,
                "scale_factor",
                trainable=True,
                shape=shape,
                dtype="float32",
                initializer="ones",
            )
            self.factors.append(factor)
        return reference

    def _scale_state(self, i: int) -> tuple[Tensor, Tensor | None]:
        factor = None
        if self.config.learn_scale:
            factor = ops.convert_to_tensor(self.factors[i].value)
        return ops.convert_to_tensor(self.references[i].value), factor

    def _quantized(self, i: int, weight: SelectedWeight, values: Tensor) -> Tensor:
        grid, waits = self.grids[i], self.config.begin_step > 0
        state = self._scale_state(i)
        if _is_jax_array(values):
            return _compiled_for_jax(grid, waits)(values, *state)
        gradient = 0.0
        if self.config.learn_scale:
            per_scale = weight.size // int(np.prod(_scale_shape(weight, grid)))
            gradient = lsq_gradient_scale(per_scale, grid.highest)
        return _on_grid(values, *state, grid=grid, waits=waits, gradient=gradient)


def _scale(reference: Tensor, factor: Tensor | None) -> Tensor:
    return reference if factor is None else relative_scale(reference, factor)


def _on_grid(
    values: Tensor,
    reference: Tensor,
    factor: Tensor | None,
    *,
    grid: Grid,
    waits: bool,
    gradient: float,
) -> Tensor:
    """Values on their grid; as they are where it waits and has not begun."""
    scale = _scale(reference, factor)
    begun = scale > 0
    rounded = fake_quantize(
        values,
        ops.where(begun, scale, ops.ones_like(scale)) if waits else scale,
        0,
        grid.lowest,
        grid.highest,
        scale_gradient=gradient,
    )
    return ops.where(begun, rounded, values) if waits else rounded


def _is_jax_array(values: Tensor) -> bool:
    """Whether JAX would compile each operation on `values` by itself."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return not isinstance(values, jax.core.Tracer)


@functools.cache
def _compiled_for_jax(grid: Grid, waits: bool) -> Any:
    """`_on_grid` without gradients, compiled once for each shape."""
    import jax

    return jax.jit(functools.partial(_on_grid, grid=grid, waits=waits, gradient=0.0))


def _check_patterns(
    weights: Sequence[SelectedWeight], by_layer: Mapping[str, Grid] | None
) -> None:
    for pattern in by_layer or {}:
        if not any(matches_layer(w.layer, w.path, pattern) for w in weights):
            names = ", ".join(repr(weight.path) for weight in weights)
            raise UnsupportedModelError(
                f"`grids_by_layer` names {pattern!r}, which matches no quantized "
                f"weight. The quantized weights are {names}."
            )


def _scale_shape(weight: SelectedWeight, grid: Grid) -> tuple[int, ...]:
    if grid.granularity == "per_tensor":
        return ()
    return tuple(
        size if i in weight.output_axes else 1 for i, size in enumerate(weight.shape)
    )


def _reduce_axes(weight: SelectedWeight, grid: Grid) -> tuple[int, ...]:
    if grid.granularity == "per_tensor":
        return tuple(range(len(weight.shape)))
    return weight.input_axes


def _best_scale(weight: SelectedWeight, grid: Grid, values: Tensor) -> Tensor:
    scale = mse_scale(values, grid.lowest, grid.highest, _reduce_axes(weight, grid))
    return ops.reshape(scale, _scale_shape(weight, grid))


def _following_scale(
    weight: SelectedWeight, grid: Grid, values: Tensor, scale: Tensor
) -> Tensor:
    """The next scale by least squares; a scale of zero stays: it has not begun."""
    axes = _reduce_axes(weight, grid)
    shape = [1 if i in axes else size for i, size in enumerate(weight.shape)]
    whole = ops.reshape(scale, shape)
    safe = ops.where(whole > 0, whole, ops.ones_like(whole))
    found = least_squares_scale(values, safe, grid.lowest, grid.highest, axes)
    return ops.reshape(ops.where(whole > 0, found, whole), scale.shape)
