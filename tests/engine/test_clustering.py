"""Clustering: shared values, exact zeros, gradients, files, and what is refused."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

import penjing
from penjing import ClusteringConfig, OneShot
from penjing.engine.clustering import apply_clustering

ROWS = 32
JIT = keras.backend.backend() == "jax"
slow_on_jax = pytest.mark.skipif(JIT, reason="JAX compiles it for seconds")


def compiled(model, optimizer=None):
    model.compile(optimizer or keras.optimizers.SGD(0.01), "mse", jit_compile=JIT)
    return model


def data(inputs=(8,), outputs=(4,)):
    rng = np.random.default_rng(0)
    make = [rng.normal(size=(ROWS, *shape)) for shape in (inputs, outputs)]
    return [array.astype("float32") for array in make]


def net(units=20):
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(4, name="head"),
        ],
        name="net",
    )


def kernels(model):
    """Weights of two and more axes by path, without the engine's own."""
    model = getattr(model, "model", model)
    return {v.path: to_array(v) for v in model.trainable_variables if len(v.shape) > 1}


def distinct(model):
    return {path: np.unique(kernel).size for path, kernel in kernels(model).items()}


def steps(model, count, x=None, y=None):
    x, y = (x, y) if x is not None else data()
    if not model.compiled:
        compiled(model)
    for _ in range(count):
        model.train_on_batch(x, y)
    return model


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


@pytest.mark.parametrize("reduce", ["mean", "sum"])
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
        (convolutions, "per_tensor"),
        (attention, "per_channel"),
        pytest.param(recurrent, "per_tensor", marks=slow_on_jax),
        pytest.param(attention, "per_tensor", marks=slow_on_jax),
        pytest.param(convolutions, "per_channel", marks=slow_on_jax),
        pytest.param(dense, "per_tensor", marks=pytest.mark.once),
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
    steps(both, 2, x, y)
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


def test_all_centroids_stay_in_use_while_a_mask_takes_the_small_weights():
    model = net(40)
    both = penjing.cluster(penjing.prune(model, OneShot(0.9)), 6)
    kernel = kernels(penjing.strip(steps(both, 1)))["net/hidden/kernel"]
    assert np.unique(kernel[kernel != 0]).size == 6
    (raw, values) = kernels(both)["net/hidden/kernel"], np.unique(kernel[kernel != 0])
    nearest = np.abs(raw[..., None] - values).argmin(axis=-1)
    np.testing.assert_array_equal(kernel, np.where(kernel == 0, 0, values[nearest]))


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


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    clustered = steps(penjing.cluster(net(), 4), 2)
    assert clustered.transforms[0].centroids[0].dtype == "float32"
    assert set(distinct(penjing.strip(clustered)).values()) == {4}


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


@pytest.mark.once
def test_weights_with_fewer_values_than_clusters_are_left_whole():
    clustered = penjing.cluster(net(), 100)
    rows = {row.path: row for row in penjing.sparsity_report(clustered).rows}
    assert rows["net/head/kernel"].reason == "it has 80 values, for 100 clusters"
    with pytest.raises(penjing.UnsupportedModelError, match="a channel of it has 8"):
        penjing.cluster(net(), 8, granularity="per_channel", include="hidden")


@pytest.mark.once
def test_the_config_survives_json_and_applies():
    model = net()
    config = ClusteringConfig(
        num_clusters=np.int64(4),
        initialization="density",
        granularity="per_channel",
        preserve_sparsity=False,
        centroid_gradient="sum",
        include=[model.get_layer("hidden")],
        exclude="head",
        seed=3,
    )
    table = json.loads(json.dumps(config.get_config()))
    again = ClusteringConfig.from_config(table)
    assert again.get_config() == config.get_config()
    clustered = apply_clustering(model, again, copy=False)
    assert clustered.model is model
    assert clustered.transforms[0].paths == ("net/hidden/kernel",)
    assert clustered.transforms[0].centroids[0].shape == (20, 4)
