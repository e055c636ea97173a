"""What a search says of its bound before anything is trained."""

from __future__ import annotations

import types

import keras
import pytest
from tests.budget.test_search import GROUND

from penjing.budget.bounds.bound import bound_on
from penjing.budget.bounds.quantities import Drop
from penjing.budget.budget import Budget
from penjing.budget.first_look import FirstLook
from penjing.budget.planning.space import Ground
from penjing.budget.preparation import Preparation
from penjing.pipeline.recipe import TrainingRecipe
from penjing.progress import ignore_progress

pytestmark = pytest.mark.once


def prepared(model=None, *, ground=GROUND, trains=False, budget=None, **look):
    """A preparation that has looked at nothing but what it is given."""
    metrics = look.pop("metrics", {"accuracy": 0.9})
    found = Preparation(
        inputs=types.SimpleNamespace(model=model or keras.Sequential([])),
        data=None,
        held_out=TrainingRecipe(),
        budget=budget or Budget(),
        seed=0,
        state=None,
        progress=ignore_progress,
        trains=trains,
    )
    directions = dict.fromkeys(metrics, "higher")
    seen = {
        "samples": 9_000,
        "errors": {},
        "test_metrics": {},
        "test_samples": 0,
        **look,
    }
    vars(found)["look"] = FirstLook(
        metrics=metrics, directions=directions, pace=0.0, steps_per_epoch=10, **seen
    )
    vars(found)["bound"] = bound_on(
        metrics, directions, name=None, drop=Drop(0.5, False), bounded=False
    )
    vars(found)["ground"] = ground
    return found


def test_the_noise_of_what_decides_is_told_whatever_there_is_to_test():
    (few,) = prepared(samples=20).notes()
    assert "noise of the validation data, which decide" in few
    assert "20 samples" in few
    sure = {"errors": {"accuracy": 0.001}, "test_metrics": {"accuracy": 0.9}}
    (many,) = prepared(samples=20, test_samples=10_000, **sure).notes()
    assert "validation data" in many
    assert not prepared(samples=9_000, test_samples=10_000, **sure).notes()


def test_a_metric_that_decides_alone_is_named():
    x = keras.Input((4,))
    model = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(1)(x)])
    metrics = {"kind_accuracy": 0.9, "age_mae": 2.0}
    (note,) = prepared(model, metrics=metrics, samples=9_000).notes()
    assert "kind_accuracy alone decides" in note and "age_mae" in note


def test_bytes_that_nobody_unzips_need_a_training():
    raw = Ground(**{**GROUND.to_dict(), "objective": "raw", "trains": False})
    budget = Budget(max_bytes="20KB")
    (note,) = prepared(ground=raw, budget=budget, samples=9_000).notes()
    assert "--compressed" in note
    assert not prepared(
        ground=raw, budget=budget, trains=True, samples=9_000
    )._bytes_note()
