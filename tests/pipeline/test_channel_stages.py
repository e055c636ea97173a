"""Recipes that cut channels: stages, resuming, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.errors import RecipeError
from penjing.pipeline import (
    ChannelPruneRecipe,
    FractionalSchedule,
    PruningConfig,
    QuantizeAwareRecipe,
    Recipe,
    TrainingRecipe,
    load_recipe,
    recipe_from_dict,
    run_recipe,
)
from penjing.pipeline.run_state import RunState
from penjing.pipeline.training import set_global_seeds

CHECKOUT = Path(__file__).resolve().parents[2]


def build():
    set_global_seeds(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(32, name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dense(4, name="logits"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def data(count=150):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 6)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32") + 2 * (x[:, 1] > 0).astype("int32")


CUTS = ChannelPruneRecipe(
    ratio=0.75,
    steps=2,
    epochs_before=1,
    recovery_epochs=1,
    group_lasso=0.05,
    distillation=0.5,
    batch_norm_batches=2,
)
TRAINING = TrainingRecipe(epochs=2, batch_size=16, learning_rate=0.01)


def recipe(*methods, **changes):
    cuts = dataclasses.replace(CUTS, **changes)
    return Recipe(name="tiny", training=TRAINING, methods=(cuts, *methods))


def values(model):
    return [keras.ops.convert_to_numpy(v.value) for v in model.variables]


def test_cuts_recoveries_and_another_method_follow_each_other():
    stages = []
    model = build()
    before = values(model)
    plan = recipe(QuantizeAwareRecipe(levels=15, begin=0.5), steps=1)
    trained = run_recipe(
        model, data(800), plan, progress=lambda event: stages.append(event.stage)
    )
    assert list(dict.fromkeys(stages)) == [
        "Training before the cut",
        "Cutting channels",
        "Recovering",
        "Training",
    ]
    stripped = penjing.strip(trained)
    assert stripped.get_layer("hidden").units == 8
    assert len(np.unique(keras.ops.convert_to_numpy(stripped.layers[-1].kernel))) <= 60
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)
    accuracy = penjing.evaluate(stripped, *data(), metrics="accuracy")["accuracy"]
    assert accuracy > 0.6  # after 150 steps; guessing gives 0.25


class KilledError(Exception):
    """What stands for a kill: nothing in the package catches it."""


RESUMED = {"epochs_before": 0, "distillation": 0.0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of a run that nothing stopped."""
    state = RunState(tmp_path_factory.mktemp("whole"), "x")
    return values(run_recipe(build(), data(), recipe(**RESUMED), state=state))


@pytest.mark.once
@pytest.mark.parametrize("stage", ["Cutting channels 2 of 2", "Recovering 2 of 2"])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path, stage, whole
):
    plan = recipe(**RESUMED)

    def kill(event):
        if event.stage == stage and (event.done or "Cut" in stage):
            raise KilledError

    with pytest.raises(KilledError):
        run_recipe(
            build(), data(), plan, state=RunState(tmp_path / "b", "x"), progress=kill
        )
    heard = []
    again = run_recipe(
        build(),
        data(),
        plan,
        state=RunState(tmp_path / "b", "x"),
        progress=lambda event: heard.append((event.stage, event.done)),
    )
    assert not [done for name, done in heard if "1 of 2" in name and done]
    for left, right in zip(values(again), whole, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.once
def test_a_cut_alone_gives_a_plain_trained_model():
    plan = recipe(steps=1, epochs_before=0, group_lasso=0.0, distillation=0.0)
    model = run_recipe(build(), data(), plan)
    assert not penjing.is_compressed(model)
    assert model.get_layer("hidden").units == 8
    assert model.compiled


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
def test_channels_behind_another_method_are_refused():
    prune = PruningConfig(schedule=FractionalSchedule(final_sparsity=0.5))
    plan = Recipe(name="late", methods=(prune, CUTS))
    with pytest.raises(RecipeError, match="must be the first method"):
        run_recipe(build(), data(), plan)


@pytest.mark.once
def test_the_recipe_in_the_documentation_is_one(tmp_path):
    text = (CHECKOUT / "docs" / "channels.md").read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.split("```toml\n")[1].split("```")[0])
    methods = load_recipe(path).methods
    assert methods[0] == ChannelPruneRecipe(macs=0.2, steps=2, recovery_epochs=3)
