import json

import keras
import numpy as np
import pytest

import penjing
from penjing import (
    ConstantSparsity,
    CosineDecay,
    FractionalSchedule,
    OneShot,
    PolynomialDecay,
    schedule_from_json,
)

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("given", "schedule"),
    [
        (
            FractionalSchedule(final_sparsity=0.9, begin=0.1, end=0.5, power=2.0),
            PolynomialDecay(
                final_sparsity=0.9,
                begin_step=100,
                end_step=500,
                power=2.0,
                frequency=16,
            ),
        ),
        (
            FractionalSchedule(
                kind="cosine", initial_sparsity=0.2, final_sparsity=0.9, frequency=7
            ),
            CosineDecay(
                initial_sparsity=0.2,
                final_sparsity=0.9,
                begin_step=0,
                end_step=500,
                frequency=7,
            ),
        ),
        (
            FractionalSchedule(
                kind="constant", final_sparsity=0.9, begin=0.25, end=0.75
            ),
            ConstantSparsity(0.9, begin_step=250, end_step=750, frequency=20),
        ),
        (
            FractionalSchedule(kind="one_shot", final_sparsity=0.9, begin=0.25),
            OneShot(0.9, step=250),
        ),
    ],
)
def test_fractions_become_steps(given, schedule):
    assert given.in_steps(1000) == schedule
    assert schedule.in_steps(7) is schedule


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", ["polynomial", "cosine", "constant", "one_shot"])
def test_the_shortest_training_reaches_the_final_sparsity(kind, steps):
    schedule = FractionalSchedule(kind=kind, final_sparsity=0.9, begin=0.0, end=0.5)
    assert float(schedule.in_steps(steps)(steps)) == pytest.approx(0.9)


def test_long_ramps_update_at_most_every_hundred_batches():
    schedule = FractionalSchedule(final_sparsity=0.9)
    assert schedule.in_steps(1_000_000).frequency == 100


@pytest.mark.parametrize(
    "schedule",
    [
        FractionalSchedule(final_sparsity=0.9),
        PolynomialDecay(final_sparsity=0.9, begin_step=3, end_step=9),
        ConstantSparsity(0.9, begin_step=2),
        OneShot(0.9, step=4),
    ],
)
def test_another_final_sparsity_changes_nothing_else(schedule):
    other = schedule.ending_at(0.5)
    assert other.final_sparsity == 0.5
    assert other != schedule
    assert other.ending_at(0.9) == schedule


def test_json_gives_the_schedule_back():
    schedule = FractionalSchedule(final_sparsity=np.float32(0.5), end=0.75)
    assert schedule_from_json(schedule.to_json()) == schedule
    assert json.loads(schedule.to_json())["config"]["frequency"] is None


def test_it_says_nothing_without_the_number_of_steps():
    schedule = FractionalSchedule(final_sparsity=0.5)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    for use in (
        lambda: schedule(1),
        lambda: penjing.prune(model, schedule),
        lambda: penjing.prune_layer(model.layers[0], schedule),
    ):
        with pytest.raises(ValueError, match=r"schedule.in_steps\(epochs \* steps_per"):
            use()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"final_sparsity": 1.0}, r"`final_sparsity` must be in \[0, 1\), got 1.0"),
        ({"initial_sparsity": -0.1}, r"`initial_sparsity` must be in \[0, 1\), got"),
        ({"begin": 1.0}, r"`begin` must be in \[0, 1\), got 1.0"),
        ({"end": 1.5}, r"`end` must be in \[0, 1\], got 1.5"),
        ({"begin": 0.5}, r"`end` must come after `begin`, got begin=0.5 and end=0.5"),
        ({"frequency": 0}, "`frequency` must be at least 1, got 0"),
        ({"power": 0.0}, "`power` must be above 0, got 0.0"),
    ],
)
def test_what_is_no_fraction_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        FractionalSchedule(**{"final_sparsity": 0.5, **wrong})


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind.*'linear'"):
        FractionalSchedule(final_sparsity=0.8, kind="linear")
