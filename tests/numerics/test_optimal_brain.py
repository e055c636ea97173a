"""Weights that make up for others, against what a search of everything finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.numerics.mask_choices import (
    best_mask,
    best_of_each,
    choice_in_turn,
    fixed_choice,
    pattern_mask,
)
from penjing.numerics.optimal_brain import (
    Choice,
    compensated,
    inverse_factor,
    layer_error,
    refined,
    saliency,
)
from penjing.numerics.patterns import NM, Block, Unstructured
from penjing.numerics.shares import cheapest_options, share_out

pytestmark = pytest.mark.once


def case(inputs=6, outputs=3, rows=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, inputs)) @ rng.normal(size=(inputs, inputs))
    return rng.normal(size=(inputs, outputs)), x.T @ x


def least_squares(weights, moments, mask):
    """The best weights behind a mask, column by column."""
    best = np.zeros_like(weights)
    for column, kept in enumerate(mask.T):
        own = np.flatnonzero(kept)
        right = moments[own] @ weights[:, column]
        best[own, column] = np.linalg.solve(moments[np.ix_(own, own)], right)
    return best


def test_the_factor_is_that_of_the_inverse():
    _, moments = case(inputs=150, rows=400)
    factor = inverse_factor(moments, 0.01)
    damped = moments + 0.01 * np.diag(moments).mean() * np.eye(150)
    np.testing.assert_allclose(
        factor.upper.T @ factor.upper, np.linalg.inv(damped), rtol=1e-6, atol=1e-9
    )
    assert (np.tril(factor.upper, -1) == 0).all() and factor.damping == 0.01


def test_a_singular_matrix_gets_more_damping_and_says_so():
    ones = np.ones((3, 3)) * (1 - 1e-17)
    factor = inverse_factor(ones - 1e-9 * np.eye(3), 1e-12)
    assert factor.damping > 1e-12 and np.isfinite(factor.upper).all()
    assert np.isfinite(inverse_factor(np.zeros((2, 2))).upper).all()


def test_a_matrix_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        inverse_factor(np.full((2, 2), np.nan))


def test_the_last_weight_that_falls_is_made_up_for_by_none():
    """Two inputs by hand: h = [[2, 1], [1, 2]], w = (1, 1), the first falls.

    The second becomes 1 + 1/2, and the error is 2 - 1/2.
    """
    moments, weights = np.array([[2.0, 1.0], [1.0, 2.0]]), np.ones((2, 1))
    upper = inverse_factor(moments, 1e-15).upper
    choice = fixed_choice(np.array([[False], [True]]))
    found = compensated(weights, upper, choice)
    np.testing.assert_allclose(found, [[0.0], [1.5]])
    np.testing.assert_allclose(layer_error(weights - found, moments), 1.5)
    np.testing.assert_allclose(saliency(weights, upper)[0], 1.5)


def test_one_weight_that_falls_first_is_made_up_for_as_well_as_can_be():
    weights, moments = case()
    mask = np.ones(weights.shape, bool)
    mask[0] = False
    found = compensated(
        weights, inverse_factor(moments, 1e-14).upper, fixed_choice(mask)
    )
    np.testing.assert_allclose(
        found, least_squares(weights, moments, mask), rtol=1e-6, atol=1e-9
    )


def test_going_through_again_comes_to_the_best_weights_behind_the_mask():
    weights, moments = case(inputs=5)
    mask = np.random.default_rng(1).random(weights.shape) > 0.4
    found = refined(weights * mask, weights, moments, sweeps=3000)
    np.testing.assert_allclose(
        found, least_squares(weights, moments, mask), rtol=1e-4, atol=1e-6
    )


def test_rounding_comes_near_what_a_search_of_all_integers_finds():
    weights, moments = case(inputs=4, outputs=1, seed=3)
    step = 0.8

    def rounded(values):
        return np.clip(np.rint(values / step), -3, 3) * step

    everything = np.array(list(itertools.product(range(-3, 4), repeat=4))) * step
    best = min(layer_error(weights - row[:, None], moments) for row in everything)
    upper = inverse_factor(moments, 1e-6).upper
    found = compensated(weights, upper, rounded=rounded)
    found = refined(found, weights, moments, rounded=rounded, sweeps=3)
    plain = layer_error(weights - rounded(weights), moments)
    assert best <= layer_error(weights - found, moments) < plain
    np.testing.assert_allclose(found, rounded(found), atol=1e-12)


@given(
    st.integers(0, 10**6),
    st.sampled_from([Unstructured(), NM(2, 4), Block(2, 1), Block(3, 2)]),
)
def test_the_error_is_lower_than_that_of_the_mask_alone(seed, pattern):
    weights, moments = case(inputs=12, outputs=5, rows=60, seed=seed)
    upper = inverse_factor(moments, 0.01).upper
    mask = pattern_mask(saliency(weights, upper), pattern, 0.5)
    found = compensated(weights, upper, choice_in_turn(mask, pattern))
    again = refined(found, weights, moments)
    kept = found != 0
    alone = layer_error(weights - weights * kept, moments)
    error = layer_error(weights - found, moments)
    assert layer_error(weights - again, moments) <= error * (1 + 1e-9)
    assert error <= alone * (1 + 1e-9)
    assert ((again != 0) == kept).all()


def test_blocks_of_many_inputs_give_what_one_by_one_gives():
    weights, moments = case(inputs=300, outputs=4, rows=900)
    upper = inverse_factor(moments).upper
    mask = best_mask(saliency(weights, upper), 600)
    step = 0.1

    def rounded(values):
        return np.rint(values / step) * step

    work = weights.copy()
    for i in range(300):
        settled = rounded(np.where(mask[i], work[i], 0))
        work[i + 1 :] -= np.outer(upper[i, i + 1 :], (work[i] - settled) / upper[i, i])
        work[i] = settled
    found = compensated(weights, upper, fixed_choice(mask), rounded)
    np.testing.assert_allclose(found, work, atol=1e-9)


@pytest.mark.parametrize("m", [3, 4, 40])
def test_of_every_run_as_many_stay_by_what_the_weights_are_then(m):
    weights, moments = case(inputs=240, outputs=2, rows=500)
    upper = inverse_factor(moments).upper
    seen = []
    runs = choice_in_turn(np.ones(weights.shape, bool), NM(2, m))

    def choose(first, scores):
        seen.append((first, scores))
        return runs.choose(first, scores)

    found = compensated(weights, upper, Choice(step=runs.step, choose=choose))
    assert ((found != 0).reshape(-1, m, 2).sum(1) == 2).all()
    # The scores of the last run are of weights that all others have changed.
    work, last = weights.copy(), 240 - m
    for i in range(last):
        work[i + 1 :] -= np.outer(upper[i, i + 1 :], (work[i] - found[i]) / upper[i, i])
        work[i] = found[i]
    expected = np.square(work[last:] / np.diag(upper)[last:, None])
    np.testing.assert_allclose(seen[-1][1], expected, rtol=1e-6)


def test_exactly_so_many_stay_and_of_equals_the_first():
    np.testing.assert_array_equal(
        best_mask(np.array([[1.0, 2.0], [2.0, 2.0]]), 2), [[False, True], [True, False]]
    )
    np.testing.assert_array_equal(
        best_of_each(np.array([[1.0, 5.0], [2.0, 4.0]]), 1),
        [[False, True], [True, False]],
    )


@pytest.mark.parametrize("pattern", [Block(2, 3), Block(3, 2, "max"), Block(5, 1)])
def test_blocks_fall_whole_and_as_many_as_asked(pattern):
    weights, moments = case(inputs=11, outputs=7, rows=50)
    upper = inverse_factor(moments).upper
    mask = pattern_mask(saliency(weights, upper), pattern, 0.5)
    kept = compensated(weights, upper, choice_in_turn(mask, pattern)) != 0
    for i in range(0, 11, pattern.rows):
        for j in range(0, 7, pattern.columns):
            block = kept[i : i + pattern.rows, j : j + pattern.columns]
            assert block.all() or not block.any()
    units = -(-11 // pattern.rows) * -(-7 // pattern.columns)
    count = sum(
        kept[i, j]
        for i in range(0, 11, pattern.rows)
        for j in range(0, 7, pattern.columns)
    )
    assert count == round(units * 0.5)


def test_shares_are_those_that_a_search_finds():
    levels = [np.linspace(0, 1, 5)] * 3
    costs = [[0, 1, 3, 6, 20], [0, 0.1, 0.3, 0.8, 4], [0, 5, 11, 18, 30]]
    sizes, amount = [40, 20, 40], 0.5
    best = min(
        (sum(c[i] for c, i in zip(costs, places, strict=True)), places)
        for places in itertools.product(range(5), repeat=3)
        if sum(s * p / 4 for s, p in zip(sizes, places, strict=True)) == amount * 100
    )
    found = share_out(sizes, levels, costs, amount)
    total = sum(
        np.interp(share, x, y) for share, x, y in zip(found, levels, costs, strict=True)
    )
    assert total <= best[0] + 1e-9
    np.testing.assert_allclose(np.dot(found, sizes), 50)


def test_shares_reach_what_can_be_reached_and_fill_dents():
    assert share_out([1, 1], [[0, 0.5]] * 2, [[0, 1]] * 2, 0.9) == [0.5, 0.5]
    # The middle of the first lies above its hull: nothing stops there.
    assert share_out([2, 2], [[0, 0.5, 1]] * 2, [[0, 9, 10], [0, 8, 16]], 0.5) == [1, 0]


@given(st.integers(0, 10**6))
def test_the_cheapest_options_are_those_of_a_search(seed):
    rng = np.random.default_rng(seed)
    amounts = [sorted(rng.integers(1, 40, 3).tolist()) for _ in range(4)]
    costs = [sorted(rng.random(3).tolist(), reverse=True) for _ in range(4)]
    budget = int(rng.integers(40, 120))
    allowed = [
        sum(c[i] for c, i in zip(costs, places, strict=True))
        for places in itertools.product(range(3), repeat=4)
        if sum(a[i] for a, i in zip(amounts, places, strict=True)) <= budget
    ]
    found = cheapest_options(amounts, costs, budget)
    if not allowed:
        assert found is None
        return
    assert sum(a[i] for a, i in zip(amounts, found, strict=True)) <= budget
    total = sum(c[i] for c, i in zip(costs, found, strict=True))
    np.testing.assert_allclose(total, min(allowed))


def test_large_budgets_are_never_exceeded():
    amounts = [[10**6 + 7, 2 * 10**6 + 1, 3 * 10**6 + 5]] * 20
    costs = [[9.0 + i, 3.0, 1.0] for i in range(20)]
    found = cheapest_options(amounts, costs, 35 * 10**6)
    assert sum(a[i] for a, i in zip(amounts, found, strict=True)) <= 35 * 10**6
    assert found[-1] > 0 and found.count(0) < 8
