"""Cuts of channels, as a recipe says them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.pipeline.channel_cases import recipe

from penjing.errors import RecipeError
from penjing.pipeline import (
    ChannelPruneRecipe,
    load_recipe,
    recipe_from_dict,
)

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.once
def test_several_cuts_share_the_target_by_the_same_factor():
    assert ChannelPruneRecipe(ratio=0.75, steps=2).target_of_a_step() == {"ratio": 0.5}
    assert ChannelPruneRecipe(macs=0.125, steps=3).target_of_a_step() == {"macs": 0.5}
    assert ChannelPruneRecipe(macs=9).target_of_a_step() == {"macs": 9}


@pytest.mark.once
def test_the_recipe_survives_toml_tables():
    plan = recipe(ratio=None, latency="0.5 ms", steps=1, include=("hid*",))
    assert recipe_from_dict(plan.to_dict()) == plan


@pytest.mark.once
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"macs": 0.5}, "Exactly one of .* got ratio=0.75 and macs=0.5"),
        ({"ratio": None}, "Exactly one of .* got none"),
        ({"ratio": 1.0}, r"`ratio` .* in \[0, 1\), got 1.0"),
        ({"ratio": None, "latency": "2 s"}, "`latency` .* got '2 s'"),
        ({"ratio": None, "macs": 1.5}, "`macs` is what stays"),
        ({"ratio": None, "macs": 900}, "`steps` = 2 needs a target in fractions"),
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"epochs_before": 0, "recovery_epochs": 0}, "`group_lasso` acts in training"),
        ({"group_lasso": -1.0}, "`group_lasso` must be at least 0"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a positive number"),
        ({"distillation": 1.0}, r"`distillation` must be in \[0, 1\)"),
        (
            {"recovery_epochs": 0},
            "`distillation` acts in the recovery",
        ),
    ],
)
def test_impossible_recipes_are_refused(changes, says):
    with pytest.raises(RecipeError, match=says):
        recipe(**changes)


@pytest.mark.once
def test_the_recipe_in_the_documentation_is_one(tmp_path):
    text = (CHECKOUT / "docs" / "channels.md").read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.split("```toml\n")[1].split("```")[0])
    methods = load_recipe(path).methods
    assert methods[0] == ChannelPruneRecipe(macs=0.2, steps=2, recovery_epochs=3)
