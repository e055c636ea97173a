"""How much of a score may be lost."""

import functools
import math

import numpy as np
import pytest

from penjing.budget.bounds.bound import (
    Bound,
    better_of,
    bound_on,
    memory_warning,
    noise_warning,
    standard_error,
)
from penjing.budget.bounds.goal import Goal
from penjing.budget.bounds.quantities import Drop
from penjing.errors import CompressionError

pytestmark = pytest.mark.once


def bound_of(metrics, directions, drop=None, name=None, bounded=False):
    return bound_on(metrics, directions, name=name, drop=drop, bounded=bounded)


def test_half_a_point_of_what_goes_from_0_to_1_and_a_percent_of_errors():
    bound = bound_of({"accuracy": 0.9}, {"accuracy": "higher"})
    assert (bound.allows(0.895), bound.allows(0.8949)) == (True, False)
    bound = bound_of({"mae": 40.0}, {"mae": "lower"})
    assert (bound.allows(40.4), bound.allows(40.41)) == (True, False)
    assert bound.text(40.4) == "1.00 % worse"


def test_other_bounds_free_the_score():
    bound = bound_of({"accuracy": 0.9}, {"accuracy": "higher"}, bounded=True)
    assert bound.allows(0.1)
    assert not bound.allows(math.nan)
    assert bound.used(0.89) == pytest.approx(2.0)


def test_the_reference_is_the_best_score():
    low = bound_of({"mae": 40.0}, {"mae": "lower"})
    assert better_of(low, [41.0, 39.0]).reference == 39.0
    high = bound_of({"accuracy": 0.9}, {"accuracy": "higher"})
    assert better_of(high, [0.89]).reference == 0.9


@pytest.mark.parametrize(
    ("metrics", "direction", "settings", "said"),
    [
        ({"duck": 3.0}, "unknown", {}, "Nobody knows whether high or low"),
        ({"mae": 3.0}, "lower", {"name": "mea"}, "Did you mean 'mae'"),
        ({"mae": 3.0}, "lower", {"drop": Drop(0.5, False)}, 'max_drop="0.5%"'),
        ({"mae": math.nan}, "lower", {}, "Check the model and the data for NaN"),
        ({}, "lower", {}, "Compile the model with metrics"),
    ],
)
def test_what_cannot_decide_is_refused(metrics, direction, settings, said):
    with pytest.raises(CompressionError, match=said):
        bound_of(metrics, dict.fromkeys(metrics, direction), **settings)


def test_a_bound_below_the_noise_is_told():
    bound = Bound(
        metric="accuracy", direction="higher", reference=0.9, drop=Drop(0.5, False)
    )
    assert noise_warning(bound, 0.004, 10_000) is None
    assert "0.5 points is smaller than the noise" in noise_warning(bound, 0.03, 100)


def test_a_model_that_agrees_with_itself_hides_no_noise():
    bound = bound_of({"agreement": 1.0}, {"agreement": "higher"})
    assert "the noise" in noise_warning(bound, 0.0, 100)
    assert noise_warning(bound, 0.0, 10_000) is None


@pytest.mark.parametrize(
    ("direction", "validated", "tested", "error", "is_told"),
    [
        ("higher", 1.0, 0.94, 0.01, True),
        ("higher", 0.95, 0.94, 0.01, False),  # as chance makes it
        ("higher", 0.95, 0.915, 0.01, False),  # as early stopping does
        ("higher", 0.90, 0.94, 0.01, False),  # no memory makes worse
        ("lower", 33.5, 43.4, 2.0, True),
    ],
)
def test_a_model_that_remembers_its_validation_data_is_told(
    direction, validated, tested, error, is_told
):
    bound = bound_of({"score": validated}, {"score": direction})
    said = memory_warning(bound, tested, error, samples=100, others=100)
    assert (said is not None) == is_told
    assert said is None or "x_validation" in said


def test_what_is_no_number_is_the_last_resort():
    bound = bound_of({"accuracy": 0.9}, {"accuracy": "higher"}, bounded=True)
    goal = Goal(
        bound=bound, bounds={"max_bytes": 100.0}, bytes_kind="raw", objective="raw"
    )
    broken, large = goal.rank(math.nan, {"raw": 50}), goal.rank(0.9, {"raw": 150})
    assert large < broken
    gaps = goal.gaps(math.nan, {"raw": 50})
    assert gaps == ("accuracy is nan in place of 0.9000",)


def test_a_bound_of_nothing_lost_is_aimed_at_exactly():
    bound = bound_of({"accuracy": 0.9}, {"accuracy": "higher"}, drop=Drop(0, False))
    goal = Goal(bound=bound, bounds={}, bytes_kind="raw", objective="raw")
    below, same = (goal.rank(score, {"raw": 1}) for score in (0.896, 0.9))
    assert below[1] > 0 and same[0] == 0
    assert goal.position(0.896, {"raw": 1}, used=0.9) > 0
    assert goal.position(0.9, {"raw": 1}, used=0.9) == 0


def test_what_misses_score_and_costs_is_to_miss_both_alike():
    bound = bound_of({"accuracy": 0.9}, {"accuracy": "higher"}, drop=Drop(1, False))
    bounds = {"max_bytes": 100.0}
    goal = Goal(bound=bound, bounds=bounds, bytes_kind="raw", objective="raw")
    position = functools.partial(goal.position, used=0.9)
    assert position(0.9, {"raw": 101}) < 0  # less must stay
    assert position(0.5, {"raw": 100}) > 0
    assert position(0.9, {"raw": 100}) < 0
    assert position(0.5, {"raw": 110}) > 0  # far from the score, near the bytes
    assert position(0.89, {"raw": 500}) < 0


def test_ties_of_float32_are_within_the_bound():
    for points in range(1, 5):
        for right in range(90, 100):
            before, after = (np.float32(n / 100) for n in (right, right - points))
            bound = bound_of(
                {"accuracy": float(before)},
                {"accuracy": "higher"},
                drop=Drop(points, False),
            )
            assert bound.allows(float(after))


def test_a_gap_says_against_what():
    bound = bound_of({"mae": 2.0}, {"mae": "lower"})
    goal = Goal(bound=bound, bounds={}, bytes_kind="raw", objective="raw")
    assert goal.gaps(2.1, {"raw": 1}) == (
        "mae is 5.00 % worse than 2.0000, where 1 % is allowed",
    )


@pytest.mark.parametrize("error", [0.1, math.nan])
def test_noise_of_scores_that_are_zero_or_no_number(error):
    bound = bound_of({"mae": 0.0}, {"mae": "lower"})
    said = noise_warning(bound, error, 100)
    assert said is None if math.isnan(error) else "is about inf %" in said


def test_parts_that_agree_by_chance_do_not_hide_the_noise_of_shares():
    alike = [0.90, 0.91, 0.90, 0.91]
    by_parts = standard_error(alike)
    assert by_parts < standard_error(alike, samples=100, direction="higher")
    assert by_parts == standard_error(alike, samples=100, direction="lower")
