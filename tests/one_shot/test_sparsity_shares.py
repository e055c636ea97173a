"""Shares of zeros by what they cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from penjing.numerics.patterns import Block, Unstructured
from penjing.one_shot.layer_compression import (
    LayerInputs,
    LayerTarget,
    compress_matrix,
    errors_of_sparsities,
)
from penjing.one_shot.sparsity_shares import LEVELS, by_magnitude, even_out, finely

pytestmark = pytest.mark.once


def test_between_levels_a_curve_is_a_power():
    curve = [7 * level**3 for level in LEVELS]
    fine = np.linspace(0, 1, 21)
    np.testing.assert_allclose(finely(curve, LEVELS, fine), 7 * fine**3, atol=1e-12)


def test_layers_whose_errors_cost_more_give_less():
    curve = [level**2 for level in LEVELS]
    even = even_out([100, 100], [curve, curve], [1.0, 1.0], 0.5)
    np.testing.assert_allclose(even, [0.5, 0.5], atol=0.01)
    shares = even_out([100, 100], [curve, curve], [3.0, 1.0], 0.5)
    np.testing.assert_allclose(shares, [0.25, 0.75], atol=0.01)


def test_every_layer_keeps_something():
    curve = [level**2 for level in LEVELS]
    shares = even_out([10, 1000], [curve, curve], [1e-9, 1.0], 0.9)
    assert shares[0] == pytest.approx(1 - 0.1 * 0.05)


def test_all_compete_by_magnitude_and_none_dies():
    small, large = np.full((4, 5), 0.1), np.ones((10, 8)) + np.arange(80).reshape(10, 8)
    shares = by_magnitude([small, large], 0.5)
    kept = [
        round((1 - s) * m.size) for s, m in zip(shares, (small, large), strict=True)
    ]
    assert kept == [1, 49]


@pytest.mark.parametrize("pattern", [Unstructured(), Block(2, 2)])
@pytest.mark.parametrize("groups", [1, 3])
def test_levels_side_by_side_cost_what_each_does_alone(pattern, groups):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(groups, 99, 10)) @ rng.normal(size=(groups, 10, 10))
    products = rows.transpose(0, 2, 1) @ rows / 99
    means = np.zeros((groups, 10))
    inputs = LayerInputs(products=products, means=means, damping=0.05)
    target = LayerTarget(method="sparsegpt", pattern=pattern, refines=False)
    matrix = rng.normal(size=(10, 6)).astype("float32")
    alone = [
        compress_matrix(matrix, dataclasses.replace(target, sparsity=s), inputs).error
        for s in LEVELS
    ]
    found = errors_of_sparsities(matrix, target, inputs, LEVELS)
    np.testing.assert_allclose(found, alone, rtol=1e-5)
