"""Group lasso: training that empties whole channels, so that a cut costs little."""

from __future__ import annotations

import math
import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.arguments import check_integer
from penjing.channels.choice import choose_groups
from penjing.channels.groups import ChannelGroup, kernels_of, unit_slices
from penjing.channels.tracing import trace_channels
from penjing.models.selection import Filter
from penjing.numerics.channel_importance import root_mean_squares


class GroupLasso(keras.callbacks.Callback):
    """Shrinks all weights of a unit of channels together, down to exact zeros.

    Pass it to `fit` of a plain model, then cut with `penjing.prune_channels`. Units
    that the loss does not need vanish: all their weights become exactly zero, and
    removing them changes nothing. Units that have a part in a frozen layer stay.

    It is proximal gradient descent: after every `frequency` batches the root mean
    square of the weights of each unit is lowered by `strength` times the learning rates
    of these batches, and never below zero. That is the exact step for the penalty
    `strength * sum of sqrt(n) * norm(unit)`, where n counts the weights of a unit. A
    penalty added to the loss would be distorted by Adam, which divides by the size of
    gradients, leave small values in place of zeros, and cost time in every step; this
    one acts between steps, on every backend and optimizer, and needs no other model.

    Args:
        strength: How much the root mean square falls for each batch at a learning rate
            of 1. The sum of all learning rates times this is what a unit without
            gradient loses in the whole training: 0.01 to 0.05 are typical.
        frequency: Batches between two steps. More often costs time on JAX.
        include: What is shrunk: layers, or patterns matched against layer paths and
            names. Default: all whose channels can be removed.
        exclude: What is left alone, in the same form; wins over `include`.
        model: The model whose channels are shrunk, where it is a part of the one that
            is trained.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> lasso = penjing.GroupLasso(0.03)  # doctest: +SKIP
        >>> model.fit(x, y, epochs=5, callbacks=[lasso])  # doctest: +SKIP
        >>> lasso.zero_units()  # doctest: +SKIP
        {'conv2d': 5, 'conv2d_1': 31, 'dense': 60}

    Reference:
        Yuan and Lin, 2006, https://doi.org/10.1111/j.1467-9868.2005.00532.x; for
        channels Wen et al., 2016, https://arxiv.org/abs/1608.03665
    """

    def __init__(
        self,
        strength: float,
        *,
        frequency: int = 20,
        include: Filter = None,
        exclude: Filter = None,
        model: keras.Model | None = None,
    ) -> None:
        super().__init__()
        number = isinstance(strength, numbers.Real) and not isinstance(strength, bool)
        if not number or not 0.0 <= strength < math.inf:
            raise ValueError(
                f"`strength` must be a number of at least 0, got {strength!r}."
            )
        check_integer("frequency", frequency, least=1)
        self.strength = float(strength)
        self.frequency = frequency
        self._filters = (include, exclude)
        self._part = model
        self._groups: list[ChannelGroup] = []
        self._due = 0
        self._last_batch = -1

    def on_train_begin(self, logs: Any = None) -> None:
        """Find the channels of the model."""
        model = self.model if self._part is None else self._part
        groups = choose_groups(trace_channels(model), *self._filters)
        self._variables = {v.path: v for v in model.weights}
        self._groups = [
            group
            for group in groups
            if all(self._variables[m.path].trainable for m in kernels_of(group))
        ]
        self._due = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count batches anew."""
        self._last_batch = -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Shrink where it is due; several batches may have run at once."""
        self._due += batch - self._last_batch
        self._last_batch = batch
        if self._due >= self.frequency:
            self._shrink()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Shrink for the batches that are left."""
        self._shrink()

    def zero_units(self) -> dict[str, int]:
        """How many units of each group have no weight left, by the group's name."""
        values = self._values()
        return {
            group.name: int((self._sizes(group, values) == 0).sum())
            for group in self._groups
        }

    def _shrink(self) -> None:
        if not self._due:
            return
        # On JAX, asking for the model brings its variables up to date.
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        threshold = self.strength * rate * self._due
        self._due = 0
        values = self._values()
        shrunk = {path: value.copy() for path, value in values.items()}
        for group in self._groups:
            sizes = self._sizes(group, values)
            factors = np.maximum(1.0 - threshold / np.maximum(sizes, 1e-30), 0.0)
            for member in kernels_of(group):
                inside = np.append(factors, 1.0)[member.units]  # -1 is the last one
                shape = [1] * shrunk[member.path].ndim
                shape[member.axis] = -1
                shrunk[member.path] *= inside.reshape(shape)
        for path, value in shrunk.items():
            self._variables[path].assign(value)

    def _values(self) -> dict[str, np.ndarray]:
        paths = {member.path for group in self._groups for member in kernels_of(group)}
        return {
            path: np.array(
                ops.convert_to_numpy(ops.cast(self._variables[path].value, "float32"))
            )
            for path in sorted(paths)
        }

    def _sizes(self, group: ChannelGroup, values: dict[str, np.ndarray]) -> np.ndarray:
        return root_mean_squares(unit_slices(kernels_of(group), values), group.size)
