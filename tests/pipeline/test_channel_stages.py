"""Recipes that cut channels: stages, resuming, what is refused."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from tests.pipeline.channel_cases import build, data, recipe

import penjing
from penjing.channels.peak_memory import arena_of
from penjing.pipeline import (
    QuantizeAwareRecipe,
    run_recipe,
)
from penjing.pipeline.recipe_files import load_recipe
from penjing.pipeline.runs.run_state import RunState
from penjing.recipes.recipe_text import packaged_recipes


def values(model):
    return [keras.ops.convert_to_numpy(v.value) for v in model.variables]


@pytest.mark.costly_on_jax
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
def whole(tmp_path_factory, untraced_throughout):
    """The weights of a run that nothing stopped."""
    state = RunState(tmp_path_factory.mktemp("whole"), "x")
    return values(run_recipe(build(), data(60), recipe(**RESUMED), state=state))


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
            build(), data(60), plan, state=RunState(tmp_path / "b", "x"), progress=kill
        )
    heard = []
    again = run_recipe(
        build(),
        data(60),
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
    model = run_recipe(build(), data(60), plan)
    assert not penjing.is_compressed(model)
    assert model.get_layer("hidden").units == 8
    assert model.compiled


@pytest.mark.once
def test_a_target_beyond_reach_is_an_error_that_names_the_recipe():
    plan = recipe(ratio=None, flash=0.1, steps=2, epochs_before=0, distillation=0.0)
    with pytest.raises(penjing.CompressionError) as caught:
        run_recipe(build(), data(60), plan)
    text = str(caught.value)
    assert "The recipe 'tiny' asks for flash=0.1, 2 cuts of an equal part: " in text
    assert "bytes of flash, estimated, 0." in text
    assert "These are keys of its method prune_channels." in text


@pytest.mark.once
@pytest.mark.parametrize(
    "target", [{"flash": 0.1}, {"macs": 0.01}, {"ratio": 0.99}], ids=str
)
def test_best_effort_takes_a_share_of_what_can_be_cut_and_says_so(target):
    changes = {"ratio": None, "group_lasso": 0.0, "distillation": 0.0, **target}
    plan = recipe(steps=1, epochs_before=0, recovery_epochs=0, **changes)
    plan = dataclasses.replace(
        plan, methods=(dataclasses.replace(plan.methods[0], best_effort=True),)
    )
    with pytest.warns(
        penjing.CompressionWarning, match="same share was cut of what can be cut"
    ):
        model = run_recipe(build(), data(60), plan)
    assert model.get_layer("hidden").units == 8


@pytest.mark.once
def test_ram_is_bounded_by_the_model_as_it_was_over_all_cuts():
    model = build()
    whole = arena_of(model)
    changes = {"ratio": None, "flash": 0.999, "distillation": 0.0, "epochs_before": 0}
    arenas = []
    for most in (None, 0.99):
        plan = recipe(max_arena=most, round_to=1, **changes)
        smaller = run_recipe(model, data(60), plan)
        arenas.append(arena_of(smaller) / whole)
    assert arenas[1] <= 0.99 < arenas[0]


@pytest.mark.once
def test_ram_beyond_reach_is_told_or_cut_as_far_as_can_be():
    changes = {"ratio": None, "flash": 0.99, "max_arena": 100, "group_lasso": 0.0}
    same = {"steps": 1, "epochs_before": 0, "recovery_epochs": 0, "distillation": 0.0}
    plan = recipe(**same, **changes)
    with pytest.raises(penjing.CompressionError, match="asks for max_arena=100: max_"):
        run_recipe(build(), data(60), plan)
    plan = recipe(**same, **changes, best_effort=True)
    with pytest.warns(penjing.CompressionWarning, match="asks for max_arena=100"):
        model = run_recipe(build(), data(60), plan)
    assert model.get_layer("hidden").units == 8


@pytest.mark.once
def test_ram_that_cannot_be_estimated_is_told_or_an_error():
    inner = keras.Sequential(
        [keras.Input((None, 4)), keras.layers.Dense(16, activation="relu")]
    )
    inputs = keras.Input((6, 4))
    x = keras.layers.GlobalAveragePooling1D()(inner(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    model.compile("adam", "mse")
    x = np.zeros((8, 6, 4), "float32")
    rows = x, np.zeros((8, 4), "float32")
    changes = {"ratio": 0.5, "max_arena": 0.9, "group_lasso": 0.0, "distillation": 0.0}
    same = {"steps": 1, "epochs_before": 0, "recovery_epochs": 0}
    with pytest.raises(penjing.UnsupportedModelError, match="sizes that are known"):
        run_recipe(model, rows, recipe(**same, **changes))
    with pytest.warns(penjing.CompressionWarning, match="RAM is not bounded: "):
        smaller = run_recipe(model, rows, recipe(**same, **changes, best_effort=True))
    assert smaller.count_params() < model.count_params()


@pytest.mark.once
def test_what_comes_with_penjing_takes_what_can_be_cut():
    for name in packaged_recipes():
        for method in load_recipe(name).methods:
            assert getattr(method, "best_effort", True), name
