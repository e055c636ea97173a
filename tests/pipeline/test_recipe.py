"""A recipe as a value: what it holds, and what is written of it."""

from __future__ import annotations

import dataclasses

import keras
import pytest

from penjing import OneShot
from penjing.errors import RecipeError
from penjing.pipeline import (
    ClusteringConfig,
    FractionalSchedule,
    PruningConfig,
    Recipe,
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
