"""The table from a method's recipe to the function that applies it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from penjing.engine.clustering import cluster
from penjing.engine.pruning import prune
from penjing.engine.quantization import default_granularity, quantize_aware
from penjing.engine.schedules import (
    ConstantSparsity,
    CosineDecay,
    OneShot,
    PolynomialDecay,
    Schedule,
)
from penjing.models.selection import select_weights
from penjing.numerics.grids import Grid
from penjing.numerics.patterns import NM, Block, Pattern, Unstructured
from penjing.pipeline.channel_recipe import ChannelPruneRecipe
from penjing.pipeline.recipe import (
    ClusterRecipe,
    PatternRecipe,
    PruneRecipe,
    QuantizeAwareRecipe,
    ScheduleRecipe,
)

UPDATES_IN_RAMP = 25
MAX_FREQUENCY = 100


def apply_prune(
    model: keras.Model, recipe: PruneRecipe, training_steps: int
) -> keras.Model:
    """Wrap a model so that training prunes it.

    Args:
        model: The model; it is copied.
        recipe: What to prune and when.
        training_steps: Batches in the whole training.

    Returns:
        A `CompressionModel`, not compiled.
    """
    return prune(
        model,
        build_schedule(_spared(recipe, model), training_steps),
        scope=recipe.scope,
        allocation=recipe.allocation,
        pattern=build_pattern(recipe.pattern),
        importance=recipe.importance,
        include=None if recipe.include is None else list(recipe.include),
        exclude=None if recipe.exclude is None else list(recipe.exclude),
        sparsity_by_layer=recipe.sparsity_by_layer,
        l1=recipe.l1,
    )


def _spared(recipe: PruneRecipe, model: keras.Model) -> ScheduleRecipe:
    """The schedule with as much less sparsity as `keep_at_least` asks.

    It never falls below the initial sparsity.
    """
    schedule = recipe.schedule
    if recipe.keep_at_least is None:
        return schedule
    chosen = select_weights(model, recipe.include, recipe.exclude).chosen
    size = sum(weight.size for weight in chosen)
    most = max(1 - recipe.keep_at_least / size, schedule.initial_sparsity)
    return dataclasses.replace(
        schedule, final_sparsity=min(schedule.final_sparsity, most)
    )


def apply_cluster(
    model: keras.Model, recipe: ClusterRecipe, training_steps: int
) -> keras.Model:
    """Wrap a model so that its weights share values while it trains.

    Args:
        model: The model; it is copied.
        recipe: What to cluster, and into how many values.
        training_steps: Batches in the whole training; clustering acts from the first.

    Returns:
        A `CompressionModel`, not compiled.
    """
    return cluster(
        model,
        recipe.num_clusters,
        initialization=recipe.initialization,
        granularity=recipe.granularity,
        preserve_sparsity=recipe.preserve_sparsity,
        include=None if recipe.include is None else list(recipe.include),
        exclude=None if recipe.exclude is None else list(recipe.exclude),
    )


def apply_quantize_aware(
    model: keras.Model, recipe: QuantizeAwareRecipe, training_steps: int
) -> keras.Model:
    """Wrap a model so that its weights live on grids from a part of training on.

    Args:
        model: The model; it is copied.
        recipe: What to round to which grid, and from when on.
        training_steps: Batches in the whole training.

    Returns:
        A `CompressionModel`, not compiled.
    """
    grid = Grid(
        bits=recipe.bits,
        levels=recipe.levels,
        granularity=recipe.granularity or default_granularity(model),
    )
    return quantize_aware(
        model,
        weights=grid,
        activations=recipe.activations,
        learn_scale=recipe.learn_scale,
        begin_step=min(round(recipe.begin * training_steps), training_steps - 1),
        grids_by_layer={
            pattern: dataclasses.replace(grid, levels=levels)
            for pattern, levels in (recipe.levels_by_layer or {}).items()
        },
        include=None if recipe.include is None else list(recipe.include),
        exclude=None if recipe.exclude is None else list(recipe.exclude),
    )


# Recipe class -> function of (model, recipe, training steps). A new method adds a row.
METHODS: dict[Any, Callable[[keras.Model, Any, int], keras.Model]] = {
    PruneRecipe: apply_prune,
    ClusterRecipe: apply_cluster,
    QuantizeAwareRecipe: apply_quantize_aware,
}
# All methods that recipes know. Cutting channels makes a new model in several stages of
# its own, before the transforms: `channel_stages.py`.
RECIPES: tuple[Any, ...] = (ChannelPruneRecipe, *METHODS)


def build_schedule(recipe: ScheduleRecipe, training_steps: int) -> Schedule:
    """Turn fractions of training into steps.

    Args:
        recipe: The schedule in fractions.
        training_steps: Batches in the whole training.

    Returns:
        The schedule in steps; its ramp is at least one step long.

    Example:
        >>> recipe = ScheduleRecipe(final_sparsity=0.8, begin=0.0, end=0.5)
        >>> build_schedule(recipe, 1000).end_step
        500
    """
    begin = min(round(recipe.begin * training_steps), training_steps - 1)
    end = max(round(recipe.end * training_steps), begin + 1)
    frequency = recipe.frequency or _frequency(end - begin)
    if recipe.kind == "one_shot":
        return OneShot(recipe.final_sparsity, step=max(begin, 1))
    if recipe.kind == "constant":
        return ConstantSparsity(
            recipe.final_sparsity, begin_step=begin, end_step=end, frequency=frequency
        )
    ramp: dict[str, Any] = {
        "initial_sparsity": recipe.initial_sparsity,
        "final_sparsity": recipe.final_sparsity,
        "begin_step": begin,
        "end_step": end,
        "frequency": frequency,
    }
    if recipe.kind == "cosine":
        return CosineDecay(**ramp)
    return PolynomialDecay(**ramp, power=recipe.power)


def _frequency(ramp_steps: int) -> int:
    return max(1, min(MAX_FREQUENCY, ramp_steps // UPDATES_IN_RAMP))


def build_pattern(recipe: PatternRecipe) -> Pattern:
    """Turn the recipe of a pattern into the pattern."""
    if recipe.kind == "block":
        return Block(
            recipe.rows or 1, recipe.columns or 1, pooling=recipe.pooling or "mean"
        )
    if recipe.kind == "nm":
        return NM(recipe.n or 1, recipe.m or 1)
    return Unstructured()
