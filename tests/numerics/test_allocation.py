"""The Erdos-Renyi-Kernel allocation."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from penjing.numerics.masks import erk_sparsities

pytestmark = pytest.mark.once  # NumPy only

shapes = st.lists(
    st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=6
)


def densities_by_search(shapes, sparsity):
    """min(1, factor * sum / product), the factor found by bisection on the total."""
    sizes = np.array([np.prod(shape) for shape in shapes], float)
    raw = np.array([np.sum(shape) for shape in shapes], float) / sizes
    low, high = 0.0, 2 / raw.min()
    for _ in range(200):
        middle = (low + high) / 2
        total = (np.minimum(middle * raw, 1) * sizes).sum()
        low, high = (
            (middle, high) if total < (1 - sparsity) * sizes.sum() else (low, middle)
        )
    return np.minimum(high * raw, 1)


def test_two_layers_by_hand():
    # 10 x 10 and 20 x 20: raw densities 0.2 and 0.1, sizes 100 and 400; half of 500
    # kept: factor * (20 + 40) = 250, so densities 0.8333 and 0.41667.
    sparsities = erk_sparsities([(10, 10), (20, 20)], 0.5)
    np.testing.assert_allclose(sparsities, [1 - 250 / 300, 1 - 250 / 600])


def test_a_layer_that_would_be_denser_than_one_stays_whole():
    # The 2 x 2 layer would get a density of 3.6; the other one pays for it.
    sparsities = erk_sparsities([(2, 2), (30, 30)], 0.7)
    assert sparsities[0] == 0.0
    assert sparsities[1] == pytest.approx(0.7 * 904 / 900)


@hypothesis.given(shapes, st.floats(0, 0.999))
def test_it_averages_to_the_sparsity_and_stays_in_range(shapes, sparsity):
    sparsities = np.array(erk_sparsities(shapes, sparsity))
    sizes = [np.prod(shape) for shape in shapes]
    assert np.average(sparsities, weights=sizes) == pytest.approx(sparsity, abs=1e-9)
    assert ((sparsities >= 0) & (sparsities < 1)).all()


@hypothesis.given(shapes, st.floats(0, 0.999))
def test_it_equals_a_search_for_the_factor(shapes, sparsity):
    expected = 1 - densities_by_search(shapes, sparsity)
    np.testing.assert_allclose(erk_sparsities(shapes, sparsity), expected, atol=1e-9)
