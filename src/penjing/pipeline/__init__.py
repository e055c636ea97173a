"""Recipes: ordered methods, trained, stripped, exported and measured.

A run is a row of stages, each with its files and its result kept, so that the same call
goes on where it was killed. Short epochs of arrays are trained together, up to 1,000
batches in one `fit`: to begin a `fit` takes as long as a hundred small batches, above
all in TensorFlow, which drops its compiled functions when its seed is set. Each epoch
has its own order and its own seeds of Python, NumPy and PyTorch, so a state that is
saved at the end of one (where a minute has passed since the last) goes on to the same
weights. Layers that draw from TensorFlow's global generator are the exception: its seed
is set only where a `fit` begins. Loaders are read one epoch at a time, long epochs in
pieces of 1,000 batches.
"""

import warnings
from typing import Any

from penjing.channels.target import ChannelTarget
from penjing.engine.fractional_schedule import FractionalSchedule
from penjing.engine.transforms.clustering_config import ClusteringConfig
from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.numerics.patterns import PATTERNS, Pattern
from penjing.pipeline.channel_recipe import ChannelPruneRecipe
from penjing.pipeline.compression import compress
from penjing.pipeline.one_shot_recipe import OneShotRecipe
from penjing.pipeline.recipe import (
    ExportRecipe,
    QuantizeAwareRecipe,
    Recipe,
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
    "ChannelTarget",
    "ClusteringConfig",
    "ExportRecipe",
    "FractionalSchedule",
    "OneShotRecipe",
    "PruningConfig",
    "QuantizeAwareRecipe",
    "Recipe",
    "TrainingRecipe",
    "compress",
    "load_recipe",
    "packaged_recipes",
    "recipe_from_dict",
    "recipe_to_toml",
    "run_recipe",
]


def _pattern(kind: str = "unstructured", **fields: Any) -> Pattern:
    return PATTERNS[kind](**fields)


# Names of version 0.1 -> what stands in their place; they go with the next version.
_FORMER = {
    "ClusterRecipe": (ClusteringConfig, "penjing.ClusteringConfig"),
    "PatternRecipe": (_pattern, "penjing.Unstructured, Block or NM"),
    "PruneRecipe": (PruningConfig, "penjing.PruningConfig"),
    "ScheduleRecipe": (FractionalSchedule, "penjing.FractionalSchedule"),
}


def __getattr__(name: str) -> Any:
    if name not in _FORMER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value, successor = _FORMER[name]
    warnings.warn(
        f"penjing.pipeline.{name} is now {successor}.", DeprecationWarning, stacklevel=2
    )
    return value
