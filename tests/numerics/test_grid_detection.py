"""Grids that are found in the values themselves."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from penjing.numerics.grid_detection import find_scale, find_scales, shares_values

pytestmark = pytest.mark.once


@hypothesis.settings(max_examples=200)
@hypothesis.given(
    st.floats(2**-30, 2**10, width=32),
    st.sets(st.integers(1, 127), min_size=1, max_size=127),
    st.floats(2**-7, 100, width=32),
    st.booleans(),
)
def test_scale_and_integers_come_back(scale, integers, factor, folded):
    """The twin: multiples of a float32 scale, perhaps times a folded factor."""
    integers = np.array(sorted(integers))
    integers[: integers.size // 2] *= -1
    values = (integers * np.float32(scale)).astype("float32")
    if folded:
        values = values * np.float32(factor)
    found = find_scale(np.append(values, np.float32(0)))
    divisor = np.gcd.reduce(integers)
    np.testing.assert_array_equal(np.rint(values / found), integers // divisor)
    assert np.abs(np.rint(values / found) * found / values - 1).max() < 2e-7
    if not folded and divisor == 1:
        np.testing.assert_array_equal(
            values, (integers * np.float32(found)).astype("float32")
        )


def test_values_by_hand():
    assert find_scale(np.float32([0.25, -0.75, 0])) == 0.25
    assert find_scale(np.float32([-2.5, 2.5])) == 2.5
    assert find_scale(np.zeros(3, "float32")) == 0
    assert find_scale(np.float32([1, 128])) is None  # 128 steps
    assert find_scale(np.float32([1, 127])) == 1
    assert find_scale(np.float32([1, 2, np.nan])) is None


@pytest.mark.parametrize("size", [3, 30, 300, 30_000])
def test_weights_of_no_grid_are_told_apart(size):
    rng = np.random.default_rng(size)
    for _ in range(20):
        assert find_scale(rng.normal(size=size).astype("float32")) is None


def test_one_weight_off_the_grid_is_seen():
    values = (np.arange(-7, 8) * 0.1).astype("float32")
    assert find_scale(values) == pytest.approx(0.1)
    values[3] *= 1.00002
    assert find_scale(values) is None


def test_channels_have_scales_of_their_own():
    rng = np.random.default_rng(1)
    integers = rng.integers(-7, 8, (5, 40, 3))
    integers[0, 0] = 7
    integers[..., 1] = 0
    scales = np.float32([0.1, 1, 0.007])
    values = (integers * scales).astype("float32")
    assert find_scale(values) is None
    assert find_scales(values, 0) is None
    np.testing.assert_array_equal(find_scales(values, 2), np.float32([0.1, 0.1, 0.007]))
    np.testing.assert_array_equal(find_scales(0 * values, 2), [1, 1, 1])


def test_shared_values():
    rng = np.random.default_rng(2)
    centroids = rng.normal(size=16).astype("float32")
    assert shares_values(centroids[rng.integers(0, 16, 20_000)])
    assert shares_values(centroids[rng.integers(0, 16, (8, 8))])
    assert not shares_values(centroids)
    assert not shares_values(rng.normal(size=20_000))
