"""Recipes: ordered methods, trained, stripped, exported and measured."""

from penjing.pipeline.compression import compress
from penjing.pipeline.progress import Listener, Progress
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
from penjing.pipeline.training import run_recipe

__all__ = [
    "ClusterRecipe",
    "ExportRecipe",
    "Listener",
    "PatternRecipe",
    "Progress",
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
