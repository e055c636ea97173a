"""k-means on a line against an exhaustive reference; the lookup against NumPy."""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.jax_cases import few_on_jax
from tests.numerics.compiling import compiled

from penjing.numerics.codebooks import (
    INITIALIZATIONS,
    cluster_statistics,
    kmeans,
    nearest_centroids,
    revive_centroids,
    share_values,
)

NAMES = tuple(INITIALIZATIONS)
every_initialization = pytest.mark.parametrize("initialization", NAMES)
numbers = hnp.arrays(
    np.float32, st.integers(1, 14), elements=st.integers(-6, 6).map(float)
)


def least_cost(values, clusters):
    """Smallest possible cost, by dynamic programming over where clusters end."""
    x = np.sort(np.asarray(values, "float64"))
    n = x.size

    def cost(i, j):
        return float(((x[i:j] - x[i:j].mean()) ** 2).sum())

    best = [0.0] + [np.inf] * n
    for _ in range(clusters):
        best = [0.0] + [
            min(best[i] + cost(i, j) for i in range(j)) for j in range(1, n + 1)
        ]
    return best[n]


def cost_of(values, centroids):
    distances = np.abs(np.asarray(values, "float64")[:, None] - centroids[None, :])
    return float((distances.min(axis=1) ** 2).sum())


@pytest.mark.once
def test_by_hand():
    values = [0.0, 1.0, 10.0, 11.0, 20.0]
    assert kmeans(np.array(values), 3).tolist() == [0.5, 10.5, 20.0]
    assert kmeans(np.array(values), 1).tolist() == [np.float32(8.4)]


@pytest.mark.once
@every_initialization
@given(values=numbers, clusters=st.integers(1, 5), seed=st.integers(0, 9))
def test_no_value_and_no_centroid_can_be_bettered(
    initialization, values, clusters, seed
):
    centroids = kmeans(values, clusters, initialization=initialization, seed=seed)
    assert centroids.dtype == np.float32
    assert centroids.shape == (clusters,)
    assert (np.diff(centroids) >= 0).all()
    optimum = least_cost(values, clusters)
    cost = cost_of(values, centroids)
    assert cost >= optimum - 1e-4
    distinct = np.unique(values)
    if distinct.size <= clusters:
        assert np.unique(centroids).tolist() == distinct.tolist()
        return
    assert np.unique(centroids).size == clusters
    members = np.abs(values[:, None] - centroids[None, :]).argmin(axis=1)
    for i in range(clusters):  # each is the mean of those that are nearest to it
        np.testing.assert_allclose(
            centroids[i], values[members == i].mean(), 1e-5, 1e-6
        )


@pytest.mark.once
@given(values=numbers, clusters=st.integers(2, 5))
def test_careful_seeding_comes_near_the_optimum(values, clusters):
    optimum = least_cost(values, clusters)
    # A local optimum of Lloyd's rounds may be worse, but four draws are seldom all bad.
    assert cost_of(values, kmeans(values, clusters)) <= 1.5 * optimum + 1e-4


@pytest.mark.once
@every_initialization
def test_clear_groups_are_found(initialization):
    rng = np.random.default_rng(1)
    middles = np.array([-40.0, -3.0, 2.0, 9.0, 30.0])
    values = (middles[:, None] + rng.normal(size=(5, 60)) * 0.05).astype("float32")
    found = kmeans(values, 5, initialization=initialization)
    if initialization in ("k-means++", "density"):
        np.testing.assert_allclose(found, np.sort(values.mean(axis=1)), 1e-5)
    assert cost_of(values.ravel(), found) >= least_cost(middles, 5) - 1e-6


@pytest.mark.once
def test_the_same_seed_gives_the_same_centroids():
    values = np.random.default_rng(0).normal(size=2000).astype("float32")
    for name in ("k-means++", "random"):
        first = kmeans(values, 12, initialization=name, seed=3)
        again = kmeans(values[::-1], 12, initialization=name, seed=3)
        np.testing.assert_array_equal(first, again)
    ones = [kmeans(values, 12, initialization="random", seed=s) for s in (1, 2)]
    assert (ones[0] != ones[1]).any()


@pytest.mark.once
@every_initialization
def test_clusters_that_lose_all_their_values_start_anew(initialization):
    values = np.concatenate([np.zeros(500), [100.0, 101.0, 102.0, 103.0]])
    found = kmeans(values, 4, initialization=initialization)
    assert np.unique(found).size == 4
    assert cost_of(values, found) <= 0.5 + 1e-6


@pytest.mark.once
def test_fewer_distinct_values_than_clusters_are_all_kept():
    assert kmeans(np.array([2.0, 1.0, 2.0]), 4).tolist() == [1.0, 2.0, 2.0, 2.0]
    assert kmeans(np.array([]), 3).tolist() == [0.0, 0.0, 0.0]
    assert kmeans(np.full((5, 5), 0.5), 1).tolist() == [0.5]


@pytest.mark.once
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scales(scale):
    values = np.random.default_rng(0).normal(size=300).astype("float32") * scale
    expected = kmeans(values / scale, 8, seed=2) * scale
    np.testing.assert_allclose(kmeans(values, 8, seed=2), expected, rtol=1e-4)


@pytest.mark.once
@every_initialization
def test_a_million_weights_take_seconds(initialization):
    values = np.random.default_rng(0).normal(size=1_000_000).astype("float32")
    start = time.perf_counter()
    found = kmeans(values, 256, initialization=initialization)
    assert time.perf_counter() - start < 20
    assert np.unique(found).size == 256


@pytest.mark.once
def test_unknown_initialization_is_refused():
    with pytest.raises(
        ValueError, match="one of 'k-means\\+\\+', 'linear', .* got 'x'"
    ):
        kmeans(np.ones(3), 2, initialization="x")


def nearest_by_distance(values, centroids):
    """Lower index first among equally near ones."""
    distances = np.abs(values[:, :, None] - centroids[:, None, :])
    return distances.argmin(axis=-1)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 16, 33])
def test_nearest_centroids_match_the_distances(number):
    rng = np.random.default_rng(number)
    # Multiples of 1/8, so that distances, midpoints and ties are exact.
    values = rng.integers(-40, 40, (3, 50)).astype("float32") / 8
    centroids = np.sort(rng.choice(200, (3, number), replace=False) - 100) / 16
    centroids = centroids.astype("float32")
    found = compiled(nearest_centroids)(values, centroids)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found), nearest_by_distance(values, centroids)
    )


def gradients(function, *arrays):
    """Value and gradients of a function of arrays, on each backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensors = [tf.Variable(array) for array in arrays]
        with tf.GradientTape() as tape:
            loss = function(*tensors)
        found = tape.gradient(loss, tensors)
    elif keras.backend.backend() == "jax":
        import jax

        found = jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays)
    else:
        import torch

        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        found = torch.autograd.grad(function(*tensors), tensors)
    return [keras.ops.convert_to_numpy(gradient) for gradient in found]


@pytest.mark.parametrize(
    ("keep_zeros", "gradient"),
    few_on_jax([(True, "mean"), (False, "sum"), (False, "mean")], (False, "sum")),
)
def test_gradients_reach_centroids_and_straight_through_values(keep_zeros, gradient):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 40)).astype("float32")
    values[:, ::5] = 0.0
    centroids = rng.permuted(
        np.array([[-1.5, -0.5, 0.25, 1.0], [-2.0, -0.125, 0.5, 3.0]], "float32"), axis=1
    )
    factors = rng.normal(size=values.shape).astype("float32")

    shared = keras.ops.convert_to_numpy(
        share_values(values, centroids, gradient=gradient, keep_zeros=keep_zeros)
    )
    members = nearest_by_distance(values, centroids)
    zero = (values == 0) & keep_zeros
    expected = np.where(zero, 0, np.take_along_axis(centroids, members, axis=1))
    np.testing.assert_array_equal(shared, expected)

    def loss(values, centroids):
        outputs = share_values(
            values, centroids, gradient=gradient, keep_zeros=keep_zeros
        )
        return keras.ops.sum(keras.ops.multiply(outputs, factors))

    of_values, of_centroids = gradients(loss, values, centroids)
    np.testing.assert_array_equal(of_values, np.where(zero, 0, factors))
    expected = np.zeros_like(centroids)
    for row in range(2):
        for i in range(4):
            mine = factors[row][(members[row] == i) & ~zero[row]]
            reduce = np.sum if gradient == "sum" or not mine.size else np.mean
            expected[row, i] = reduce(mine)
    np.testing.assert_allclose(of_centroids, expected, rtol=1e-5, atol=1e-6)


def test_minus_zero_stays_zero():
    values = np.array([[-0.0, 0.5, -1.0]], "float32")
    shared = share_values(values, np.array([[-1.0, 0.25]], "float32"), keep_zeros=True)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(shared), [[0.0, 0.25, -1.0]]
    )


def revived(values, centroids, keep_zeros=True):
    """Centroids after those without members were moved."""
    statistics = cluster_statistics(values, centroids, keep_zeros=keep_zeros)
    return revive_centroids(centroids, *statistics)


def members(values, centroids):
    return np.bincount(
        np.abs(values[:, None] - centroids).argmin(axis=1), minlength=centroids.size
    )


def test_centroids_without_members_halve_the_costliest_clusters():
    rng = np.random.default_rng(0)
    large = np.concatenate([rng.uniform(3, 6, 100), rng.uniform(-9, -8, 50)])
    values = np.stack([np.concatenate([large, np.zeros(150)])] * 3).astype("float32")
    values[1] = rng.normal(size=300)  # a row in which nothing is to be done
    values[2] = np.repeat([0.5, -0.5], 150)  # and one in which nothing can be done
    centroids = np.array(
        [
            [-8.5, -0.2, 0.1, 4.0, -0.1, 0.2],
            [-1.5, 1.5, -0.5, 0.5, 0.1, -0.1],
            [-0.5, 0.5, 7.0, 8.0, 9.0, -7.0],
        ],
        "float32",
    )
    found = keras.ops.convert_to_numpy(compiled(revived)(values, centroids))
    np.testing.assert_array_equal(found[1:], centroids[1:])

    assert (members(large, centroids[0]) == 0).sum() == 4
    assert (members(large, found[0]) > 0).all()
    assert cost_of(large, found[0]) < 0.25 * cost_of(large, centroids[0])


def test_revived_centroids_of_one_empty_cluster_by_hand():
    values = np.array([[1.0, 1.0, 3.0, 3.0, 10.0, 0.0, 0.0]], "float32")
    centroids = np.array([[10.0, -1.5, 2.5]], "float32")
    found = revived(values, centroids)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found), [[10.0, 3.0, 1.0]], rtol=1e-6
    )
    kept = revived(values, centroids, keep_zeros=False)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kept), centroids)
