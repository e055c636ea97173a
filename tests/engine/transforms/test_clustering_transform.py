"""Codebooks: gradients, members, exact zeros, and centroids that stay in use."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.small_net import compiled, data, kernels, net, steps
from tests.engine.training_cases import to_array
from tests.jax_cases import few_on_jax

import penjing
from penjing import OneShot


@pytest.mark.parametrize("reduce", few_on_jax(["mean", "sum"], "sum"))
def test_a_training_step_moves_centroids_and_weights_as_by_hand(reduce):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(3, use_bias=False, name="only")], name="net"
    )
    clustered = penjing.cluster(model, 4, centroid_gradient=reduce)
    x, y = data((6,), (3,))
    raw = to_array(clustered.model.layers[0].kernel).copy()
    (centroids,) = clustered.transforms[0].centroids
    old = to_array(centroids).copy()
    members = np.abs(raw[..., None] - old).argmin(axis=-1)
    steps(clustered, 1, x, y)

    gradient = 2 * x.T @ (x @ old[members] - y) / y.size
    of_centroids = [getattr(gradient[members == i], reduce)() for i in range(4)]
    expected = old - 0.01 * np.array(of_centroids)
    # Sums in float32, in another order.
    np.testing.assert_allclose(to_array(centroids), expected, 1e-5, 1e-6)
    after = to_array(clustered.model.layers[0].kernel)
    np.testing.assert_allclose(after, raw - 0.01 * gradient, 1e-5, 1e-6)


def test_weights_change_over_to_other_centroids_in_training():
    clustered = penjing.cluster(net(), 6)
    before = kernels(penjing.strip(clustered))["net/hidden/kernel"]
    steps(compiled(clustered, keras.optimizers.Adam(0.05)), 6)
    after = kernels(penjing.strip(clustered))["net/hidden/kernel"]
    assert np.unique(after).size <= 6
    ranks = [
        np.searchsorted(np.unique(kernel), kernel).ravel() for kernel in (before, after)
    ]
    assert (ranks[0] != ranks[1]).any()


@pytest.fixture(scope="module")
def already_pruned():
    """A plain model with zeros, and where they are."""
    pruned = penjing.prune(net(), OneShot(0.7))
    steps(pruned, 1)
    plain = penjing.strip(pruned)
    return plain, {path: kernel == 0 for path, kernel in kernels(plain).items()}


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(keras.optimizers.SGD(0.01, momentum=0.9), marks=pytest.mark.once),
        keras.optimizers.AdamW(0.01, weight_decay=0.1),
    ],
    ids=["momentum", "weight decay"],
)
def test_zeros_of_a_plain_model_stay_zero_in_training(already_pruned, optimizer):
    plain, zeros = already_pruned
    optimizer = type(optimizer).from_config(optimizer.get_config())
    clustered = steps(compiled(penjing.cluster(plain, 4), optimizer), 5)
    result = penjing.strip(clustered)
    for path, kernel in kernels(result).items():
        np.testing.assert_array_equal(kernel == 0, zeros[path])
        assert np.unique(kernel[kernel != 0]).size <= 4


def test_without_preserve_sparsity_zeros_are_values_like_others(already_pruned):
    plain, zeros = already_pruned
    clustered = penjing.cluster(plain, 4, preserve_sparsity=False)
    for path, kernel in kernels(
        steps(clustered, 2) and penjing.strip(clustered)
    ).items():
        assert np.unique(kernel).size <= 4
        assert (kernel == 0).sum() < zeros[path].sum()


def test_zeros_move_with_a_mask_whose_schedule_still_runs():
    schedule = penjing.PolynomialDecay(
        final_sparsity=0.8, begin_step=1, end_step=3, power=1, frequency=1
    )
    both = penjing.cluster(penjing.prune(net(), schedule), 4)
    sparsities = []
    for _ in range(3):
        steps(both, 1)
        kernel = kernels(penjing.strip(both))["net/hidden/kernel"]
        sparsities.append(float((kernel == 0).mean()))
        assert np.unique(kernel[kernel != 0]).size <= 4
    assert sparsities == pytest.approx([0.0, 0.4, 0.8])


@pytest.mark.costly_on_jax
def test_all_centroids_stay_in_use_while_a_mask_takes_the_small_weights():
    model = net(40)
    both = penjing.cluster(penjing.prune(model, OneShot(0.9)), 6)
    kernel = kernels(penjing.strip(steps(both, 1)))["net/hidden/kernel"]
    assert np.unique(kernel[kernel != 0]).size == 6
    (raw, values) = kernels(both)["net/hidden/kernel"], np.unique(kernel[kernel != 0])
    nearest = np.abs(raw[..., None] - values).argmin(axis=-1)
    np.testing.assert_array_equal(kernel, np.where(kernel == 0, 0, values[nearest]))


def first_centroids(clustered):
    return to_array(clustered.transforms[0].centroids[0])


@pytest.mark.once
def test_the_same_seed_gives_the_same_codebook():
    model = net()
    for name in ("k-means++", "random"):
        found = [
            first_centroids(penjing.cluster(model, 6, initialization=name, seed=seed))
            for seed in (1, 1, 2)
        ]
        np.testing.assert_array_equal(found[0], found[1])
        if name == "random":
            assert (found[0] != found[2]).any()


@pytest.mark.once
def test_constant_and_zero_weights_cluster_without_harm():
    model = net()
    model.get_layer("hidden").kernel.assign(np.full((8, 20), 0.5))
    model.get_layer("head").kernel.assign(np.zeros((20, 4)))
    clustered = penjing.cluster(model, 4)
    values = kernels(penjing.strip(clustered))
    assert np.unique(values["net/hidden/kernel"]).tolist() == [0.5]
    assert np.unique(values["net/head/kernel"]).tolist() == [0.0]


@pytest.mark.once
def test_weights_with_fewer_values_than_clusters_are_left_whole():
    clustered = penjing.cluster(net(), 100)
    rows = {row.path: row for row in penjing.sparsity_report(clustered).rows}
    assert rows["net/head/kernel"].reason == "it has 80 values, for 100 clusters"
    with pytest.raises(penjing.UnsupportedModelError, match="a channel of it has 8"):
        penjing.cluster(net(), 8, granularity="per_channel", include="hidden")
