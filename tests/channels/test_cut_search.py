"""Targets, rounding, rankings and budgets, on hand-made groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.channels.cut_search import (
    Candidates,
    CutSearch,
    _out_of_reach,
    units_in_steps,
)
from penjing.channels.target import ChannelTarget

pytestmark = pytest.mark.once


def group(name, scores, step=1, floor=1):
    scores = np.asarray(scores, float)
    return Candidates(name=name, scores=scores, step=step, floor=floor)


def sizes(kept):
    return {name: int(mask.sum()) for name, mask in kept.items()}


@pytest.mark.parametrize(
    ("size", "step", "floor", "allowed"),
    [
        (20, 8, 1, [8, 16, 20]),
        (16, 8, 1, [8, 16]),
        (20, 8, 9, [16, 20]),
        (20, 8, 30, [20]),
        (6, 8, 2, [2, 3, 4, 5, 6]),
        (8, 8, 1, [1, 2, 3, 4, 5, 6, 7, 8]),
        (3, 1, 1, [1, 2, 3]),
    ],
)
def test_numbers_that_may_stay(size, step, floor, allowed):
    assert group("a", np.ones(size), step, floor).allowed == allowed


def test_channels_become_units():
    assert units_in_steps(4, 64, 8, 100) == {"step": 1, "floor": 2}
    assert units_in_steps(32, 1, 8, 0) == {"step": 8, "floor": 1}
    assert units_in_steps(2, 1, 8, 5) == {"step": 8, "floor": 2}


def test_the_lowest_of_all_go_first_and_the_best_of_each_group_stay():
    search = CutSearch([group("a", [1, 9, 2, 8]), group("b", [3, 4])], "global")
    # The ranking is 1, 2, 3 (then 4 and 9 are reserved), 8.
    assert sizes(search.kept(search.counts(3))) == {"a": 2, "b": 1}
    assert sizes(search.kept(search.counts(search.most))) == {"a": 1, "b": 1}
    np.testing.assert_array_equal(search.kept([2, 1])["a"], [False, True, False, True])


def test_every_group_gives_the_same_fraction_in_the_layer_scope():
    groups = [group("a", np.arange(12)), group("b", np.arange(100, 108))]
    search = CutSearch(groups, "layer")
    assert sizes(search.kept(search.counts(10))) == {"a": 6, "b": 4}


def test_of_equal_scores_the_first_stay():
    assert group("a", [1, 1, 1]).best(2).tolist() == [True, True, False]


@st.composite
def searches(draw):
    groups = []
    for number in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 20))
        scores = draw(st.lists(st.floats(0, 9), min_size=size, max_size=size))
        groups.append(group(f"g{number}", scores, draw(st.sampled_from([1, 4, 8])), 1))
    return CutSearch(groups, draw(st.sampled_from(["global", "layer"])))


@given(searches(), st.data())
def test_costs_fall_along_the_ranking_and_counts_are_allowed(search, data):
    first = data.draw(st.integers(0, search.most))
    second = data.draw(st.integers(first, search.most))
    few, many = search.counts(first), search.counts(second)
    for lot, less, more in zip(search.groups, few, many, strict=True):
        assert less >= more
        assert less in lot.allowed and more in lot.allowed
    assert search.counts(0) == [lot.size for lot in search.groups]


@given(searches(), st.floats(0.05, 1.0), st.integers(1, 5))
def test_a_budget_is_met_and_nothing_that_fits_is_left_out(search, part, weight):
    def cost(kept):
        return float(sum(weight * mask.sum() ** 2 for mask in kept.values()))

    whole = cost(search.kept([lot.size for lot in search.groups]))
    least = cost(search.kept(search.counts(search.most)))
    found = search.within(cost, part * whole)
    if found is None:
        assert least > part * whole
        return
    assert cost(found) <= part * whole * (1 + 1e-6)
    if search.scope == "layer":
        return
    for lot in search.groups:
        count = int(found[lot.name].sum())
        if count < lot.size:
            bigger = lot.best(lot.allowed[lot.allowed.index(count) + 1])
            assert cost({**found, lot.name: bigger}) > part * whole


@pytest.mark.parametrize(
    ("given_target", "whole", "amount"),
    [
        ({"ratio": 0.25}, 80, 60),
        ({"macs": 0.5}, 80, 40),
        ({"macs": 30}, 80, 30),
        ({"parameters": 1}, 80, 1),
        ({"latency": 0.5}, 0.2, 0.1),
        ({"latency": "0.05 ms"}, 0.2, 0.05),
        ({"latency": "3ms"}, 0.2, 3),
        ({"ratio": np.float32(0.25)}, 80, 60),
        ({"macs": np.float32(0.5)}, 80, 40),
        ({"parameters": np.int64(30)}, 80, 30),
    ],
)
def test_fractions_and_amounts_mean_what_stays(given_target, whole, amount):
    assert ChannelTarget(**given_target).amount(whole) == pytest.approx(amount)


@pytest.mark.parametrize(
    ("target", "whole", "best", "in_reach"),
    [
        ({"flash": 0.2}, 3000.0, 2000.0, 2200),
        ({"macs": 1500}, 3000.0, 2000.0, 2500),
        ({"ratio": 0.9}, 1.0, 0.5, 0.45),
    ],
)
def test_what_is_in_reach_is_the_share_of_what_can_be_cut(
    target, whole, best, in_reach
):
    error = _out_of_reach(ChannelTarget(**target), whole, best)
    assert error.in_reach == pytest.approx(in_reach)
