"""A recipe as a value: what it holds, and what is written of it."""

from __future__ import annotations

import dataclasses

import keras
import pytest

from penjing import OneShot
from penjing.errors import RecipeError
from penjing.pipeline import (
    ChannelPruneRecipe,
    ClusteringConfig,
    FractionalSchedule,
    PruningConfig,
    Recipe,
    TrainingRecipe,
    load_recipe,
)

pytestmark = pytest.mark.once


def test_recipes_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_recipe("default").name = "other"


def make_row(**settings):
    return PruningConfig(FractionalSchedule(final_sparsity=0.5), **settings)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (PruningConfig(OneShot(0.5)), "`schedule` is OneShot.* penjing.FractionalSch"),
        (make_row(importance=abs), "`importance` is <built-in function abs>"),
        (make_row(include=keras.layers.Dense(1)), "`include` is <Dense"),
    ],
)
def test_what_no_file_can_hold_is_refused_in_a_recipe(row, says):
    with pytest.raises(RecipeError, match=f"A recipe holds tables, .* {says}"):
        Recipe(name="mine", methods=(row,))


def test_settings_that_came_after_0_1_are_written_where_they_are_set():
    recipe = Recipe(name="mine", methods=(ClusteringConfig(4),))
    assert set(recipe.to_dict()["methods"][0]) == {
        "method",
        "num_clusters",
        "initialization",
        "granularity",
        "preserve_sparsity",
    }
    recipe = Recipe(name="mine", methods=(ClusteringConfig(4, seed=1),))
    assert recipe.to_dict()["methods"][0]["seed"] == 1


def test_what_trains_nothing_has_no_method_that_acts_in_training():
    nothing = TrainingRecipe(epochs=0, minimum_steps=3000)
    assert nothing.epochs_of(10) == 0
    cut = ChannelPruneRecipe(ratio=0.5)
    assert Recipe(name="mine", training=nothing, methods=(cut,)).methods == (cut,)
    with pytest.raises(RecipeError, match="at least 1, got 0: `prune` acts in tr"):
        Recipe(name="mine", training=nothing, methods=(cut, make_row()))
