"""`cluster`: what it does at once, with other methods, in files and copies."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.small_net import compiled, data, kernels, net, steps
from tests.engine.training_cases import to_array
from tests.jax_cases import few_on_jax

import penjing
from penjing import OneShot

costly_on_jax = pytest.mark.costly_on_jax


def distinct(model):
    return {path: np.unique(kernel).size for path, kernel in kernels(model).items()}


def test_it_acts_at_once_and_leaves_the_model_alone():
    model = net()
    before = kernels(model)
    clustered = penjing.cluster(model, 5)
    with warnings.catch_warnings():
        # It needs no training step.
        warnings.simplefilter("error", penjing.CompressionWarning)
        plain = penjing.strip(clustered)
    assert type(plain) is keras.Sequential
    assert distinct(plain) == {"net/hidden/kernel": 5, "net/head/kernel": 5}
    for path, kernel in kernels(plain).items():
        centroids = np.unique(kernel)
        nearest = np.abs(before[path][..., None] - centroids).argmin(axis=-1)
        np.testing.assert_array_equal(kernel, centroids[nearest])
    x, _ = data()
    np.testing.assert_allclose(to_array(plain(x)), to_array(clustered(x)), atol=1e-6)
    for path, kernel in kernels(model).items():
        np.testing.assert_array_equal(kernel, before[path])


def dense():
    return net(), (8,), (4,)


def convolutions():
    stack = [
        keras.Input((6, 6, 3)),
        layers.Conv2D(5, 3, name="conv"),
        layers.Conv2D(6, 1, name="pointwise"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.SeparableConv2D(4, 2, name="separable"),
        layers.Flatten(),
    ]
    return keras.Sequential(stack, name="net"), (6, 6, 3), (4,)


def convolutions_1d():
    stack = [keras.Input((7, 4)), layers.Conv1D(5, 3), layers.Conv1DTranspose(3, 2)]
    return keras.Sequential(stack, name="net"), (7, 4), (6, 3)


def recurrent():
    stack = [keras.Input((4, 5)), layers.LSTM(6, name="lstm"), layers.Dense(3)]
    return keras.Sequential(stack, name="net"), (4, 5), (3,)


def attention():
    inputs = keras.Input((4, 6))
    outputs = layers.MultiHeadAttention(2, 4, name="mha")(inputs, inputs)
    return keras.Model(inputs, outputs, name="net"), (4, 6), (4, 6)


@pytest.mark.parametrize(
    ("architecture", "granularity"),
    [
        (dense, "per_tensor"),
        pytest.param(attention, "per_channel", marks=costly_on_jax),
        pytest.param(convolutions, "per_tensor", marks=costly_on_jax),
        pytest.param(recurrent, "per_tensor", marks=costly_on_jax),
        pytest.param(attention, "per_tensor", marks=costly_on_jax),
        pytest.param(convolutions, "per_channel", marks=costly_on_jax),
        pytest.param(convolutions_1d, "per_tensor", marks=pytest.mark.once),
        pytest.param(convolutions_1d, "per_channel", marks=pytest.mark.once),
        pytest.param(recurrent, "per_channel", marks=pytest.mark.once),
    ],
)
def test_pruned_and_clustered_in_one_model(architecture, granularity):
    """Every zero of the mask stays zero, the others share few values."""
    model, inputs, outputs = architecture()
    x, y = data(inputs, outputs)
    pruned = penjing.prune(model, OneShot(0.5))
    both = penjing.cluster(pruned, 3, granularity=granularity)
    assert [type(t).__name__ for t in both.transforms] == ["Prune", "Cluster"]
    traced = architecture in (dense, recurrent)  # the others train alike
    steps(compiled(both, traced=traced), 2, x, y)
    masks = {
        path: to_array(mask).astype(bool)
        for path, mask in zip(
            both.transforms[0].paths, both.transforms[0].masks, strict=True
        )
    }
    plain = penjing.strip(both)
    np.testing.assert_allclose(to_array(plain(x)), to_array(both(x)), atol=1e-5)
    clustered = both.transforms[1].weights_by_path
    assert clustered
    for path, weight in clustered.items():
        kernel = kernels(plain)[path]
        np.testing.assert_array_equal(kernel == 0, ~masks[path])
        rows = [kernel.ravel()]
        if granularity == "per_channel":
            axes = weight.input_axes + weight.output_axes
            rows = kernel.transpose(axes).reshape(weight.matrix_shape).T
        for row in rows:
            assert np.unique(row[row != 0]).size <= 3
    assert "depthwise" not in " ".join(clustered)


@pytest.mark.costly_on_jax
def test_pruning_added_later_starts_its_schedule_then():
    clustered = steps(penjing.cluster(net(), 4), 3)
    schedule = penjing.PolynomialDecay(
        final_sparsity=0.8, begin_step=0, end_step=2, frequency=1
    )
    both = penjing.prune(clustered, schedule)
    assert [type(t).__name__ for t in both.transforms] == ["Prune", "Cluster"]
    assert int(to_array(both.step)) == 3
    with pytest.warns(penjing.CompressionWarning, match="not trained since"):
        penjing.strip(both)  # no step of the schedule was made yet
    steps(both, 2)
    for kernel in kernels(penjing.strip(both)).values():
        assert (kernel == 0).mean() == pytest.approx(0.8, abs=0.01)
        assert np.unique(kernel[kernel != 0]).size <= 4


@pytest.mark.costly_on_jax
def test_clustering_added_later_keeps_the_masks_of_a_schedule_that_ended():
    pruned = penjing.prune(net(), penjing.ConstantSparsity(0.75, 0, 2, 1))
    steps(pruned, 4)
    zeros = {path: k == 0 for path, k in kernels(penjing.strip(pruned)).items()}
    both = steps(penjing.cluster(pruned, 4), 3)
    for path, kernel in kernels(penjing.strip(both)).items():
        np.testing.assert_array_equal(kernel == 0, zeros[path])


def test_saved_midway_it_goes_on_as_if_uninterrupted(tmp_path):
    both = penjing.cluster(penjing.prune(net(), OneShot(0.5)), 5)
    steps(compiled(both, keras.optimizers.Adam(0.01)), 2)
    both.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert loaded.transforms[1].config == both.transforms[1].config
    for left, right in zip(both.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(to_array(left), to_array(right))
    steps(both, 2), steps(loaded, 2)
    for left, right in zip(both.variables, loaded.variables, strict=True):
        np.testing.assert_allclose(to_array(left), to_array(right), atol=1e-6)


@pytest.mark.costly_on_jax
def test_copies_train_alone():
    clustered = steps(penjing.cluster(net(), 5), 1)
    before = [to_array(v).copy() for v in clustered.variables]
    twin = penjing.prune(clustered, OneShot(0.5))
    centroids = [to_array(v) for v in twin.transforms[1].centroids]
    for mine, yours in zip(centroids, clustered.transforms[0].centroids, strict=True):
        np.testing.assert_array_equal(mine, to_array(yours))
    steps(twin, 2)
    for old, variable in zip(before, clustered.variables, strict=True):
        np.testing.assert_array_equal(old, to_array(variable))


@pytest.mark.parametrize(
    "policy", few_on_jax(["mixed_bfloat16", "mixed_float16"], "mixed_float16")
)
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    clustered = steps(penjing.cluster(net(), 4), 2)
    assert clustered.transforms[0].centroids[0].dtype == "float32"
    assert set(distinct(penjing.strip(clustered)).values()) == {4}


@pytest.mark.costly_on_jax
def test_the_report_names_what_was_done_and_why_not():
    model, *_ = convolutions()
    rows = {
        row.path: row
        for row in penjing.sparsity_report(
            penjing.cluster(model, 12, exclude="separable")
        ).rows
    }
    assert rows["net/conv/kernel"].methods == ("clustered",)
    assert rows["net/conv/kernel"].distinct == 12
    assert "depthwise" in rows["net/depthwise/kernel"].reason
    assert rows["net/separable/pointwise_kernel"].reason == "excluded"
    assert "vector" in rows["net/conv/bias"].reason

    both = penjing.cluster(penjing.prune(net(), OneShot(0.5), exclude="head"), 4)
    report = penjing.sparsity_report(both)
    methods = {row.path: row.methods for row in report.rows if row.methods}
    assert methods == {
        "net/hidden/kernel": ("pruned", "clustered"),
        "net/head/kernel": ("clustered",),
    }
    assert "compressed: pruned, clustered" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["distinct"] == 4


def test_zero_may_count_among_the_clusters():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    kernel = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
    kernel[::2] = 0
    model.layers[0].kernel.assign(kernel)
    for count_zero, expected in ((False, 5), (True, 4)):
        clustered = penjing.cluster(model, 4, count_zero=count_zero)
        values = np.unique(penjing.strip(clustered).get_weights()[0])
        assert len(values) == expected and 0 in values


@pytest.mark.parametrize(("clusters", "preserve"), [(1, True), (4, False)])
def test_zero_counts_only_where_it_stays(clusters, preserve):
    with pytest.raises(ValueError, match="`count_zero` needs preserve_sparsity=True"):
        penjing.ClusteringConfig(clusters, preserve_sparsity=preserve, count_zero=True)


def test_scales_of_channels_would_split_values_that_all_share():
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(16)])
    rounded = penjing.quantize_aware(model)
    with pytest.raises(penjing.UnsupportedModelError, match="Cluster the model first"):
        penjing.cluster(rounded, 4)
    grid = penjing.Grid(granularity="per_tensor")
    both = penjing.cluster(penjing.quantize_aware(model, weights=grid), 4)
    kernel = penjing.strip(both).layers[0].kernel
    assert len(np.unique(keras.ops.convert_to_numpy(kernel))) <= 4


def test_weights_that_are_not_rounded_may_share_values():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(8, name="a"),
            keras.layers.Dense(8, name="b"),
        ]
    )
    rounded = penjing.quantize_aware(model, exclude=["b"])
    assert penjing.cluster(rounded, 4, exclude=["a"]).transforms
