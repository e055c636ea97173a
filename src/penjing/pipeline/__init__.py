"""Recipes: ordered methods, trained, stripped, exported and measured."""

from penjing.pipeline.channel_recipe import ChannelPruneRecipe
from penjing.pipeline.compression import compress
from penjing.pipeline.recipe import (
    ClusterRecipe,
    ExportRecipe,
    PatternRecipe,
    PruneRecipe,
    QuantizeAwareRecipe,
    Recipe,
    ScheduleRecipe,
    TrainingRecipe,
)
from penjing.pipeline.recipe_files import (
    load_recipe,
    packaged_recipes,
    recipe_from_dict,
    recipe_to_toml,
)
from penjing.pipeline.recipe_run import run_recipe

__all__ = [
    "ChannelPruneRecipe",
    "ClusterRecipe",
    "ExportRecipe",
    "PatternRecipe",
    "PruneRecipe",
    "QuantizeAwareRecipe",
    "Recipe",
    "ScheduleRecipe",
    "TrainingRecipe",
    "compress",
    "load_recipe",
    "packaged_recipes",
    "recipe_from_dict",
    "recipe_to_toml",
    "run_recipe",
]
