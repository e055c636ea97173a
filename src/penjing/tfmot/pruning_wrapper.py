"""The layer that stands for a pruned layer in a model."""

from __future__ import annotations

import abc
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, cast

import keras

from penjing.engine import schedules
from penjing.engine.schedules import Schedule
from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.engine.transforms.pruning_transform import Prune
from penjing.numerics.patterns import Block, Pattern, Unstructured
from penjing.tfmot.layer_wrapper import LayerTransform, LayerWrapper, check_known
from penjing.tfmot.padded_runs import PaddedNM
from penjing.tfmot.pruning_schedules import (
    ConstantSparsity,
    PruningSchedule,
    ScheduleAdapter,
    serialize_schedule,
)

_POOLINGS: dict[str, Literal["mean", "max"]] = {"AVG": "mean", "MAX": "max"}


class PrunableLayer(abc.ABC):
    """Mark of a layer class of one's own that says which weights may be pruned.

    Example:
        >>> class Projection(keras.layers.Layer, PrunableLayer):
        ...     def build(self, input_shape):
        ...         self.matrix = self.add_weight(shape=(input_shape[-1], 8))
        ...
        ...     def get_prunable_weights(self):
        ...         return [self.matrix]
    """

    @abc.abstractmethod
    def get_prunable_weights(self) -> list[Any]:
        """Return the variables of the built layer that may be pruned."""


class LayerPrune(LayerTransform, Prune):
    """Masks of the prunable weights of one layer, which may be none.

    Args:
        config: How much to prune, when and in which pattern.
        positions: See `LayerTransform`.
        **kwargs: Passed to `Transform`.
    """

    hook = "get_prunable_weights"

    def add_state(self, path: str, name: str, **kwargs: Any) -> Any:
        """A variable that is named as in tfmot, with a number from the second on."""
        return self.add_weight(
            name=f"{name}{self.number(path)}",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            **kwargs,
        )

    def update(self, step: Any, values: Any) -> None:
        """Compute the masks anew where there are any and the schedule says so."""
        if self.masks:
            super().update(step, values)


@keras.saving.register_keras_serializable("penjing.tfmot")
class PruneLowMagnitude(LayerWrapper):
    """A layer whose weights of low magnitude are masked on a schedule.

    For every prunable weight it adds a mask and a threshold, and for itself a counter
    of training batches. `prune_low_magnitude` makes it, `strip_pruning` takes it out.

    Args:
        layer: Layer to prune. One without prunable weights is run as it is.
        pruning_schedule: A `PruningSchedule`, or a schedule of penjing.
        block_size: Height and width of the blocks that fall together.
        block_pooling_type: `"AVG"` or `"MAX"`: the score of a block.
        sparsity_m_by_n: `(m, n)` for m zeros in every n neighbouring inputs. A rest of
            an axis is filled up with zeros; a constant sparsity beside it is m / n.
        pruned_positions: Which weights of the layer are pruned; set by loading.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range or the layer cannot be pruned.
    """

    prefix = "prune_low_magnitude"
    parts = ("pruning_schedule",)

    def __init__(
        self,
        layer: keras.layers.Layer,
        pruning_schedule: PruningSchedule | Schedule | None = None,
        block_size: Sequence[int] = (1, 1),
        block_pooling_type: str = "AVG",
        sparsity_m_by_n: Sequence[int] | None = None,
        pruned_positions: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        check_known(layer, hook=LayerPrune.hook, mark="PrunableLayer", done="pruned")
        if pruning_schedule is None:
            pruning_schedule = ConstantSparsity(0.5, begin_step=0)
        config = make_pruning_config(
            pruning_schedule, block_size, block_pooling_type, sparsity_m_by_n
        )
        self.pruning_schedule = pruning_schedule
        self.block_size = tuple(block_size)
        self.block_pooling_type = block_pooling_type
        self.sparsity_m_by_n = sparsity_m_by_n and tuple(sparsity_m_by_n)
        super().__init__(
            layer,
            lambda name: LayerPrune(config, pruned_positions, name=name),
            **kwargs,
        )

    @property
    def pruning_vars(self) -> list[tuple[Any, Any, Any]]:
        """For every pruned weight the weight, its mask and its threshold."""
        prune = self._prune
        weights = [weight.variable for weight in prune.weights_by_path.values()]
        return list(zip(weights, prune.masks, prune.thresholds, strict=True))

    @property
    def pruning_step(self) -> Any:
        """Variable that counts the training batches seen."""
        return self.step

    def _state(self) -> list[Any]:
        return [variable for _, *pair in self.pruning_vars for variable in pair]

    def get_config(self) -> dict[str, Any]:
        """Layer, schedule and pattern, serialized by Keras."""
        return {
            **super().get_config(),
            "pruning_schedule": serialize_schedule(self.pruning_schedule),
            "block_size": list(self.block_size),
            "block_pooling_type": self.block_pooling_type,
            "sparsity_m_by_n": self.sparsity_m_by_n and list(self.sparsity_m_by_n),
            "pruned_positions": self._prune.positions,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Layer from the dictionary that `get_config` gave."""
        config = dict(config)
        config.pop("dtype", None)  # in files of tfmot; the wrapper has none of its own
        return super().from_config(config, custom_objects)

    @property
    def _prune(self) -> LayerPrune:
        return cast(LayerPrune, self.transforms[0])


def make_pruning_config(
    pruning_schedule: PruningSchedule | Schedule | None,
    block_size: Sequence[int] = (1, 1),
    block_pooling_type: str = "AVG",
    sparsity_m_by_n: Sequence[int] | None = None,
) -> PruningConfig:
    """Say the arguments of `prune_low_magnitude` in penjing's words.

    One that is out of range is a ValueError.
    """
    if pruning_schedule is None:
        pruning_schedule = ConstantSparsity(0.5, begin_step=0)
    if block_pooling_type not in _POOLINGS:
        raise ValueError(
            f"`block_pooling_type` must be 'AVG' or 'MAX', got {block_pooling_type!r}."
        )
    height, width = _two_integers("block_size", block_size)
    pattern: Pattern = Unstructured()
    if (height, width) != (1, 1):
        pattern = Block(height, width, pooling=_POOLINGS[block_pooling_type])
    if sparsity_m_by_n is not None:
        zeros, run = _two_integers("sparsity_m_by_n", sparsity_m_by_n)
        if pattern != Unstructured():
            raise ValueError(
                "Blocks and m-by-n sparsity exclude each other, got block_size="
                f"{block_size} and sparsity_m_by_n={sparsity_m_by_n}. Give one of them."
            )
        if zeros >= run:
            raise ValueError(
                "`sparsity_m_by_n` is (zeros, run), zeros in every run of neighbouring "
                f"inputs, so the first must be smaller, got {sparsity_m_by_n}."
            )
        pattern = PaddedNM(run - zeros, run)
        pruning_schedule = _spelled(pruning_schedule, zeros / run)
    return PruningConfig(schedule=_adapt(pruning_schedule), pattern=pattern)


def _spelled(schedule: Any, sparsity: float) -> Any:
    """A constant schedule with the sparsity that zeros and run spell; others as is."""
    if type(schedule) is ConstantSparsity:
        steps = (schedule.begin_step, schedule.end_step, schedule.frequency)
        return ConstantSparsity(sparsity, *steps)
    if type(schedule) in (schedules.ConstantSparsity, schedules.OneShot):
        return schedule.ending_at(sparsity)
    return schedule


def _adapt(schedule: Any) -> Schedule:
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, PruningSchedule):
        return ScheduleAdapter(schedule)
    raise ValueError(
        "`pruning_schedule` must be a PruningSchedule, such as "
        "ConstantSparsity(0.5, begin_step=0), or a schedule of penjing, got "
        f"{schedule!r} of type {type(schedule).__name__}."
    )


def _two_integers(name: str, value: Any) -> tuple[int, int]:
    items = tuple(value) if isinstance(value, Iterable) else ()
    whole = all(isinstance(item, numbers.Integral) for item in items)
    if len(items) != 2 or not whole or min(items) < 1:
        raise ValueError(
            f"`{name}` must be two positive integers, such as (2, 4), got {value!r}."
        )
    return int(items[0]), int(items[1])
