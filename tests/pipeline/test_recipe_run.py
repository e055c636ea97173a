"""A recipe, run: the order of its methods, and what each is given."""

from __future__ import annotations

import pytest
from tests.pipeline.channel_cases import CUTS, build, data

import penjing
from penjing.errors import RecipeError
from penjing.pipeline import (
    FractionalSchedule,
    PruningConfig,
    QuantizeAwareRecipe,
    Recipe,
    TrainingRecipe,
    run_recipe,
)
from penjing.pipeline.recipe_run import split_channels


@pytest.mark.once
def test_channels_behind_another_method_are_refused():
    prune = PruningConfig(schedule=FractionalSchedule(final_sparsity=0.5))
    plan = Recipe(name="late", methods=(prune, CUTS))
    with pytest.raises(RecipeError, match="must be the first method"):
        run_recipe(build(), data(), plan)


@pytest.mark.once
def test_a_method_twice_is_refused_before_anything_is_done():
    plan = Recipe(name="twice", methods=(CUTS, *[QuantizeAwareRecipe()] * 2))
    with pytest.raises(RecipeError, match="has the method `quantize_aware` 2 times"):
        run_recipe(None, None, plan)


@pytest.mark.once
def test_cuts_are_told_apart_from_the_other_methods():
    prune = PruningConfig(FractionalSchedule(final_sparsity=0.5))
    rounded = QuantizeAwareRecipe()
    plan = Recipe(name="all", methods=(CUTS, prune, rounded))
    assert split_channels(plan) == (True, (prune, rounded))
    plan = Recipe(name="two", methods=(prune, rounded))
    assert split_channels(plan) == (False, (prune, rounded))
    with pytest.raises(RecipeError, match=r"got places \[0, 1\]. Several cuts are `st"):
        split_channels(Recipe(name="twice", methods=(CUTS, CUTS)))


@pytest.mark.once
def test_methods_know_the_batches_of_the_whole_training():
    prune = PruningConfig(FractionalSchedule(final_sparsity=0.5, begin=0.5, end=1.0))
    training = TrainingRecipe(epochs=2, batch_size=16)
    plan = Recipe(name="mine", training=training, methods=(prune,))
    model = build()
    trained = run_recipe(model, data(count=64), plan, progress=False)
    schedule = trained.transforms[0].config.schedule
    assert (schedule.begin_step, schedule.end_step) == (4, 8)
    assert trained.count_steps() == 8
    assert penjing.sparsity_report(penjing.strip(trained)).sparsity == 0.5
    assert penjing.sparsity_report(model).sparsity == 0
