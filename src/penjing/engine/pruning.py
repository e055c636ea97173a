"""Pruning: low-scoring weights become zero while the model trains on."""

from __future__ import annotations

import dataclasses

import keras

from penjing.engine.compressed_layer import CompressedLayer
from penjing.engine.compression_model import CompressionModel
from penjing.engine.schedules import Schedule
from penjing.engine.transforms.method_config import OfModel, takes_settings
from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.engine.transforms.pruning_transform import Prune
from penjing.engine.wrapping import add_transform
from penjing.models.selection import select_weights
from penjing.numerics.importance import Importance, ImportanceName
from penjing.numerics.patterns import NM, Pattern, Unstructured


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneArguments(PruningConfig, OfModel):
    """The signature of `prune`."""

    copy: bool = True


@takes_settings(PruningConfig, PruneArguments)
def prune(
    model: keras.Model, config: PruningConfig, *, copy: bool = True
) -> CompressionModel:
    """Prune a model's weights on a schedule while it trains on.

    Compile what comes back and train it; no callback is needed. `penjing.strip` then
    gives the plain model with its zeros.

    Args:
        model: Any Keras model, on any backend: Sequential, Functional, subclassed or
            nested; or one that carries transforms already, to which pruning is added.
        config: What to prune, how much of it, and when: each field of `PruningConfig`
            is an argument, `schedule` the second.
        copy: Leave the given model alone. `False` trains its own weights and saves
            the memory of a copy.

    Returns:
        A model to compile and train, whose outputs are those of `model` until the
        schedule begins.

    Raises:
        UnsupportedModelError: If nothing can be pruned, a named layer cannot, the
            model is not built or cannot be copied.
        CompressionError: If a weight is NaN or infinite.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, penjing
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> schedule = penjing.PolynomialDecay(
        ...     final_sparsity=0.75, begin_step=0, end_step=2
        ... )
        >>> pruned = penjing.prune(model, schedule)
        >>> pruned.compile("adam", "mse")
        >>> x, y = keras.ops.ones((64, 8)), keras.ops.ones((64, 4))
        >>> _ = pruned.fit(x, y, epochs=1, verbose=0)
        >>> penjing.sparsity_report(penjing.strip(pruned)).rows[0].zeros
        24
    """
    return apply_pruning(model, config, copy=copy)


def apply_pruning(
    model: keras.Model,
    config: PruningConfig,
    *,
    training_steps: int | None = None,
    copy: bool = True,
) -> CompressionModel:
    """`prune` with its settings in a config, as recipes hold them.

    A schedule in fractions of the training needs `training_steps`, its batches.
    """
    schedule = _spared(config, model).in_steps(training_steps)
    config = dataclasses.replace(config, schedule=schedule)
    return add_transform(model, Prune(config), copy=copy)


def _spared(config: PruningConfig, model: keras.Model) -> Schedule:
    """The schedule with as much less sparsity as `keep_at_least` asks.

    It never falls below the initial sparsity.
    """
    schedule = config.schedule
    if config.keep_at_least is None or config.sparsity_by_layer:
        return schedule  # what layers say is lowered where they are known
    chosen = select_weights(model, config.include, config.exclude).chosen
    size = sum(weight.size for weight in chosen)
    least = getattr(schedule, "initial_sparsity", 0.0)
    most = max(1 - config.keep_at_least / size, least)
    if isinstance(config.pattern, NM) and most < schedule.final_sparsity:
        raise ValueError(
            f"`keep_at_least` lets at most {most:.3g} of the {size:,} weights fall, "
            f"and {config.pattern} takes {schedule.final_sparsity:g}. Lower it, or "
            "leave it out."
        )
    return schedule.ending_at(min(schedule.final_sparsity, most))


def prune_layer(
    layer: keras.layers.Layer,
    schedule: Schedule,
    *,
    pattern: Pattern | None = None,
    importance: ImportanceName | Importance = "magnitude",
) -> CompressedLayer:
    """Prune one layer on a schedule, inside whatever model it is put in.

    Args:
        layer: A Keras layer, built or not. It is not copied.
        schedule: Training step -> sparsity; the layer counts the steps itself.
        pattern: See `prune`.
        importance: See `prune`.

    Returns:
        A layer to use in place of the given one.

    Raises:
        ValueError: If `layer` is not a Keras layer or an argument is out of range.
        UnsupportedModelError: If the layer has no weight that can be pruned.

    Example:
        >>> import keras, penjing
        >>> dense = penjing.prune_layer(keras.layers.Dense(4), penjing.OneShot(0.5))
        >>> dense(keras.ops.ones((1, 8)), training=True).shape[-1]
        4
    """
    config = PruningConfig(
        schedule=schedule,
        pattern=Unstructured() if pattern is None else pattern,
        importance=importance,
    )
    config = dataclasses.replace(config, schedule=config.schedule.in_steps(None))
    return CompressedLayer(layer, [Prune(config)])
