"""The table from a method's settings in a recipe to the function that applies them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from penjing.engine.clustering import apply_clustering
from penjing.engine.fractional_schedule import step_at
from penjing.engine.pruning import apply_pruning
from penjing.engine.quantization import default_granularity, quantize_aware
from penjing.engine.transforms.clustering_config import ClusteringConfig
from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.engine.transforms.quantization_config import QuantizationSettings
from penjing.numerics.grids import Grid
from penjing.pipeline.channel_recipe import ChannelPruneRecipe
from penjing.pipeline.one_shot_recipe import OneShotRecipe
from penjing.pipeline.recipe import QuantizeAwareRecipe


def apply_quantize_aware(
    model: keras.Model, recipe: QuantizeAwareRecipe, *, training_steps: int
) -> keras.Model:
    """Wrap a copy so that its weights live on grids from a part of training on."""
    grid = Grid(
        bits=recipe.bits,
        levels=recipe.levels,
        granularity=recipe.granularity or default_granularity(model),
    )
    settings = dataclasses.fields(QuantizationSettings)
    return quantize_aware(
        model,
        **{field.name: getattr(recipe, field.name) for field in settings},
        weights=grid,
        activations=recipe.activations,
        begin_step=step_at(recipe.begin, training_steps),
        grids_by_layer={
            pattern: dataclasses.replace(grid, levels=levels)
            for pattern, levels in (recipe.levels_by_layer or {}).items()
        },
    )


# Class of the settings -> function of (model, settings, training_steps=...). A new
# method adds a row.
METHODS: dict[Any, Callable[..., keras.Model]] = {
    PruningConfig: apply_pruning,
    ClusteringConfig: apply_clustering,
    QuantizeAwareRecipe: apply_quantize_aware,
}
# All methods that recipes know. Two make a new model before the transforms: cutting
# channels, in several stages of its own (`channel_stages.py`), and pruning at once.
RECIPES: tuple[Any, ...] = (ChannelPruneRecipe, OneShotRecipe, *METHODS)
