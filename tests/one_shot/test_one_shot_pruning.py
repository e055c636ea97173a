"""Weights that fall without training: on every kind of model, and what comes after."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import penjing
from penjing.errors import CompressionError, DataError, UnsupportedModelError


def network(activation="relu", head=3):
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(8, 3, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(24, activation=activation, name="hidden"),
            layers.Dense(head, activation="softmax", name="head"),
        ]
    )


def images(count=256, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(count, 6, 6, 1))
    mixed = base * [1.0, 0.5] + 0.3 * rng.normal(size=(count, 6, 6, 2)) + 0.2
    return mixed.astype("float32")


def values(model):
    return [ops.convert_to_numpy(w) for w in model.weights]


def kernels(model):
    return {
        w.path: ops.convert_to_numpy(w) for w in model.weights if "kernel" in w.path
    }


@pytest.fixture(scope="module")
def pruned():
    keras.utils.set_random_seed(1)
    model, x = network(), images()
    before = values(model)
    sparse, report = penjing.prune_one_shot(model, x, 0.6, return_report=True)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)
    return model, sparse, report, x


def test_the_zeros_are_as_many_as_asked_and_the_given_model_stays(pruned):
    model, sparse, report, _ = pruned
    assert abs(penjing.sparsity_report(sparse).sparsity - 0.6) < 0.005
    assert abs(report.sparsity - 0.6) < 0.005
    assert [w.path for w in sparse.weights] == [w.path for w in model.weights]
    assert not penjing.is_compressed(sparse)


def test_the_report_says_what_was_done_and_what_it_cost(pruned):
    _, _, report, x = pruned
    rows = {row.path: row for row in report.rows}
    assert report.samples == len(x)
    for name in ("first/kernel", "hidden/kernel", "head/kernel"):
        row = next(row for path, row in rows.items() if path.endswith(name))
        assert row.method == "sparsegpt" and row.bits is None
        assert 0 <= row.error <= row.plain_error
    bias = next(row for path, row in rows.items() if path.endswith("first/bias"))
    assert not bias.method and "bias" in bias.reason
    assert "sparsegpt" in str(report) and "first/kernel" in str(report)
    assert type(report).from_dict(report.to_dict()) == report


def test_outputs_move_less_than_by_magnitude(pruned):
    model, sparse, _, _ = pruned
    x = images(200, seed=1)
    plain = penjing.prune_one_shot(
        model, images(), 0.6, method="magnitude", scope="layer"
    )
    wanted = ops.convert_to_numpy(model(x))
    errors = [
        np.square(ops.convert_to_numpy(one(x)) - wanted).mean()
        for one in (sparse, plain)
    ]
    assert errors[0] < 0.7 * errors[1]


def test_the_mean_of_what_a_layer_gives_stays(pruned):
    model, sparse, _, x = pruned
    before, after = (
        ops.convert_to_numpy(m.get_layer("first")(x)) for m in (model, sparse)
    )
    np.testing.assert_allclose(after.mean((0, 1, 2)), before.mean((0, 1, 2)), atol=1e-4)


def test_averages_move_as_what_they_are_of_moved(pruned):
    model, sparse, _, x = pruned
    moved = []
    for one in (model, sparse):
        given = ops.convert_to_numpy(one.get_layer("first")(x)).reshape(-1, 8)
        norm = one.get_layer("norm")
        variance = ops.convert_to_numpy(norm.moving_variance) + norm.epsilon
        moved.append((given.var(0) + norm.epsilon) / variance)
    # Of each the mean over batches, which is not that over all.
    np.testing.assert_allclose(moved[0], moved[1], rtol=0.02)


@pytest.mark.parametrize("method", ["sparsegpt", "wanda", "magnitude"])
def test_every_method_takes_patterns(method):
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8), layers.Dense(4)])
    x = np.random.default_rng(0).normal(size=(40, 16)).astype("float32")
    sparse = penjing.prune_one_shot(model, x, pattern=penjing.NM(2, 4), method=method)
    for kernel in kernels(sparse).values():
        assert ((kernel != 0).reshape(-1, 4, kernel.shape[1]).sum(1) == 2).all()
    blocks = penjing.Block(4, 1)
    sparse = penjing.prune_one_shot(model, x, 0.5, pattern=blocks, method=method)
    zeros = 0
    for kernel in kernels(sparse).values():
        counts = (kernel != 0).reshape(-1, 4, kernel.shape[1]).sum(1)
        assert set(np.unique(counts)) <= {0, 4}
        zeros += (counts == 0).sum()
    assert zeros == 20


def test_wanda_keeps_what_counts_most_in_each_output():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(30, 4)).astype("float32") * [1, 5, 1, 3]
    sparse = penjing.prune_one_shot(model, x, 0.5, method="wanda", scope="layer")
    (before,), (after,) = kernels(model).values(), kernels(sparse).values()
    scores = np.abs(before) * np.sqrt(np.square(x - x.mean(0)).sum(0))[:, None]
    assert ((after != 0).sum(0) == 2).all()
    for column in range(3):
        assert set(np.flatnonzero(after[:, column])) == set(
            np.argsort(scores[:, column])[2:]
        )
    np.testing.assert_array_equal(after[after != 0], before[after != 0])


def test_a_joint_pass_gives_zeros_on_grids():
    model, x = network(), images()
    grid = penjing.Grid(bits=4)
    sparse, report = penjing.prune_one_shot(
        model, x, 0.5, weights=grid, return_report=True
    )
    assert abs(report.sparsity - 0.5) < 0.2 and report.rows[0].bits == 4
    for kernel in kernels(sparse).values():
        columns = kernel.reshape(-1, kernel.shape[-1]).T
        assert all(np.unique(np.abs(column)).size <= 8 for column in columns)


def test_the_mask_stays_in_what_trains_on():
    model, x = network(), images()
    sparse = penjing.prune_one_shot(model, x, 0.5)
    training = penjing.prune(sparse, penjing.OneShot(0.4))
    training.compile("sgd", "mse")
    training.fit(x, np.eye(3)[np.arange(256) % 3], epochs=1, verbose=0)
    rounded = penjing.quantize_weights(sparse, x)
    for path, kernel in kernels(sparse).items():
        own = kernels(rounded)[path]
        assert (own[kernel == 0] == 0).all()


@pytest.mark.parametrize("scope", ["auto", "layer", "global"])
def test_the_first_convolution_of_a_network_with_one_large_layer_lives(scope):
    model, x = network(), images(64)
    sparse = penjing.prune_one_shot(model, x, 0.8, scope=scope)
    shares = {path: (k == 0).mean() for path, k in kernels(sparse).items()}
    total = sum((k == 0).sum() for k in kernels(sparse).values())
    size = sum(k.size for k in kernels(sparse).values())
    assert abs(total / size - 0.8) < 0.01
    first = next(share for path, share in shares.items() if "first" in path)
    if scope == "layer":
        assert abs(first - 0.8) < 0.01
    else:
        assert first < 0.8


def test_layers_in_turns_and_in_sequence_reach_the_same_sparsity():
    model, x = network(), images()
    for settings in ({"max_memory": 1}, {"sequential": True}):
        sparse = penjing.prune_one_shot(model, x, 0.5, scope="layer", **settings)
        assert abs(penjing.sparsity_report(sparse).sparsity - 0.5) < 0.01


def test_embeddings_and_cells_go_by_magnitude_and_say_why():
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, mask_zero=True),
            layers.LSTM(4),
            layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).integers(0, 9, (20, 5))
    sparse, report = penjing.prune_one_shot(model, x, 0.5, return_report=True)
    rows = {row.path.split("/")[-2]: row for row in report.rows if row.method}
    assert rows["embedding"].method == rows["lstm_cell"].method == "magnitude"
    assert "looks" in rows["embedding"].reason and "loop" in rows["lstm_cell"].reason
    assert rows["dense"].method == "sparsegpt"
    assert abs(report.sparsity - 0.5) < 0.01


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float16"])
def test_other_types_hold_zeros_and_grids(policy):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")
    sparse = penjing.prune_one_shot(model, x, 0.5, weights=penjing.Grid(bits=4))
    for kernel in (w for w in sparse.weights if "kernel" in w.path):
        own = ops.convert_to_numpy(ops.cast(kernel, "float32"))
        for column in own.T:
            integers = column / np.abs(column[column != 0]).min(initial=np.inf)
            assert np.unique(np.abs(column)).size <= 8 and np.isfinite(integers).all()
    assert sparse.weights[0].dtype == model.weights[0].dtype


def test_frozen_nested_and_shared_layers_are_taken():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="inner")])
    inner.trainable = False
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(inner(inner(inputs))))
    x = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    sparse = penjing.prune_one_shot(model, x, 0.5, scope="layer")
    assert all((k == 0).mean() == 0.5 for k in kernels(sparse).values())
    assert not sparse.get_layer(inner.name).trainable


@keras.saving.register_keras_serializable(package="penjing_one_shot_tests")
class Pair(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(6, activation="relu", name="hidden")
        self.head = layers.Dense(2, name="head")

    def build(self, shape):
        self.hidden.build(shape)
        self.head.build((*shape[:-1], 6))

    def call(self, inputs):
        return self.head(self.hidden(inputs))


def test_subclassed_models_and_what_data_may_be():
    model = Pair()
    x = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    model(x)
    y = np.zeros(40)
    masks = []
    batches = [(x[:32], y[:32]), (x[32:], y[32:])]
    for data in (x, (x, y), batches, lambda: x, iter(batches)):
        sparse = penjing.prune_one_shot(model, data, 0.5, scope="layer")
        masks.append([k != 0 for k in kernels(sparse).values()])
    for other in masks[1:]:
        for one, two in zip(masks[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_of_much_data_samples_are_spread():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(5000, 4)).astype("float32")
    _, report = penjing.prune_one_shot(model, x, 0.5, return_report=True)
    assert report.samples == 4096


def test_few_rows_are_damped_and_it_is_said():
    model = keras.Sequential([keras.Input((40,)), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(8, 40)).astype("float32")
    _, report = penjing.prune_one_shot(model, x, 0.5, return_report=True)
    assert report.rows[0].damping == pytest.approx(0.05 * 4 * 40 / 8)
    assert "few rows" in report.rows[0].reason


def test_constant_and_dead_inputs_do_no_harm():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
    x = np.ones((20, 6), "float32")
    x[:, 0] = 0
    sparse = penjing.prune_one_shot(model, x, 0.5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(sparse(x)), ops.convert_to_numpy(model(x)), atol=1e-5
    )


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("size", [1.0, 300.0])
def test_rows_that_are_all_one_are_taken(rows, size):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((96,)), layers.Dense(8)])
    x = np.random.default_rng(rows).normal(size=(1, 96)).astype("float32")
    x = np.repeat(size * (x + 1), rows, axis=0)
    sparse = penjing.prune_one_shot(model, x, 0.5, progress=False)
    np.testing.assert_allclose(
        ops.convert_to_numpy(sparse(x)), ops.convert_to_numpy(model(x)), rtol=1e-3
    )


def test_frozen_averages_move_too():
    model = network()
    x = images()
    free = penjing.prune_one_shot(model, x, 0.7, progress=False)
    model.trainable = False
    still = penjing.prune_one_shot(model, x, 0.7, progress=False)
    assert not still.get_layer("norm").trainable
    for name in ("moving_mean", "moving_variance"):
        old, one, two = (
            ops.convert_to_numpy(getattr(m.get_layer("norm"), name))
            for m in (model, free, still)
        )
        if name == "moving_variance":  # the bias keeps the mean
            assert np.abs(one - old).max() > 1e-4
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_progress_is_told():
    told = []
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    penjing.prune_one_shot(model, x, 0.5, progress=told.append)
    stages = dict.fromkeys(p.stage for p in told)
    assert list(stages) == ["Collecting inputs", "Measuring layers", "Compressing"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("data", "settings", "error", "text"),
    [
        (None, {}, DataError, "`calibration_data` is missing"),
        (np.zeros((0, 4), "float32"), {}, DataError, "is empty"),
        (np.full((3, 4), np.nan), {}, DataError, "NaN or infinity"),
        (np.zeros((3, 5)), {}, DataError, "cannot run on `calibration_data`"),
        (np.zeros((3, 4)), {"sparsity": 1.0}, ValueError, r"in \[0, 1\), got 1.0"),
        (np.zeros((3, 4)), {"method": "gptq"}, ValueError, "`method` must be one of"),
        (np.zeros((3, 4)), {"scope": "all"}, ValueError, "`scope` must be one of"),
        (np.zeros((3, 4)), {"pattern": "2:4"}, ValueError, "must be a penjing Pattern"),
        (np.zeros((3, 4)), {"damping": 0}, ValueError, "`damping` must be above 0"),
        (np.zeros((3, 4)), {"max_memory": 0}, ValueError, "It is in bytes"),
        (np.zeros((3, 4)), {"weights": 2}, ValueError, "number of levels"),
        (np.zeros((3, 4)), {"include": "x*"}, UnsupportedModelError, "matches no"),
        (
            np.zeros((3, 4)),
            {"pattern": penjing.NM(2, 4), "sparsity": 0.7},
            ValueError,
            "makes 0.5 of the weights zero",
        ),
        (
            np.zeros((3, 4)),
            {"pattern": penjing.NM(2, 4), "scope": "global"},
            ValueError,
            "same sparsity",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(data, settings, error, text):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(error, match=text):
        penjing.prune_one_shot(model, data, **settings)


@pytest.mark.once
def test_models_that_cannot_be_taken_say_why():
    x = np.zeros((3, 4), "float32")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(UnsupportedModelError, match="Strip it first"):
        penjing.prune_one_shot(penjing.prune(model, penjing.OneShot(0.5)), x)
    with pytest.raises(UnsupportedModelError, match="is not built"):
        penjing.prune_one_shot(keras.Sequential([layers.Dense(3)]), x)
    with pytest.raises(UnsupportedModelError, match="must be a keras.Model"):
        penjing.prune_one_shot("model.keras", x)
    model.layers[0].kernel.assign(np.full((4, 3), np.nan))
    with pytest.raises(CompressionError, match="NaN or infinite"):
        penjing.prune_one_shot(model, x)


def test_magnitude_needs_no_data():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    sparse = penjing.prune_one_shot(model, None, 0.5, method="magnitude", scope="layer")
    (before,), (after,) = kernels(model).values(), kernels(sparse).values()
    assert (after == 0).sum() == 6
    assert np.abs(before[after == 0]).max() <= np.abs(before[after != 0]).min()


def test_what_runs_inside_a_loop_or_never_says_so():
    inputs = keras.Input((5, 4))
    spread = layers.TimeDistributed(layers.Dense(3, name="inner"))(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="outer")(spread))
    x = np.random.default_rng(0).normal(size=(20, 5, 4)).astype("float32")
    sparse, report = penjing.prune_one_shot(model, x, 0.5, return_report=True)
    assert abs(report.sparsity - 0.5) < 0.05
    row = next(row for row in report.rows if row.path.endswith("outer/kernel"))
    assert row.method == "sparsegpt"
    own = next(row for row in report.rows if row.path.endswith("inner/kernel"))
    assert own.method == "sparsegpt" or "loop" in own.reason or "never" in own.reason
    assert sparse.count_params() == model.count_params()


def half_pruned(units=(32, 32, 4), pruned=(0, 1, 2)):
    keras.utils.set_random_seed(0)
    activations = [*["relu"] * (len(units) - 1), None]
    stack = [layers.Dense(n, a) for n, a in zip(units, activations, strict=True)]
    model = keras.Sequential([keras.Input((16,)), *stack])
    for place in pruned:
        kernel, bias = model.layers[place].get_weights()
        kernel[np.abs(kernel) < np.median(np.abs(kernel))] = 0
        model.layers[place].set_weights([kernel, bias])
    return model


@pytest.mark.parametrize("pruned", [(0, 1, 2), (1,)])
def test_layers_that_have_their_zeros_already_are_not_emptied(pruned):
    x = np.random.default_rng(0).normal(size=(128, 16)).astype("float32")
    model = half_pruned(pruned=pruned)
    sparse = penjing.prune_one_shot(model, x, 0.5, progress=False)
    even = penjing.prune_one_shot(model, x, 0.5, scope="layer", progress=False)
    wanted = ops.convert_to_numpy(model(x))
    errors = [
        np.square(ops.convert_to_numpy(one(x)) - wanted).mean()
        for one in (sparse, even)
    ]
    assert errors[0] <= 1.05 * errors[1] + 1e-9


def test_blocks_across_groups_are_refused_layer_by_layer():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 16)),
            layers.Conv2D(16, 3, groups=8, name="grouped"),
            layers.Conv2D(8, 1, name="whole"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 16)).astype("float32")
    sparse, report = penjing.prune_one_shot(
        model, x, 0.5, pattern=penjing.Block(2, 4), return_report=True, progress=False
    )
    assert "8 groups are no multiple" in str(report)
    kernel = ops.convert_to_numpy(sparse.get_layer("whole").kernel)[0, 0]
    blocks = kernel.reshape(8, 2, 2, 4).any(axis=(1, 3))
    assert blocks.mean() == 0.5


def test_a_layer_into_which_nothing_flows_is_told():
    inputs = keras.Input((5, 4))
    nothing = layers.Dense(3, name="nothing")(inputs[:, 5:])
    outputs = [layers.Dense(3, name="all")(inputs), nothing]
    x = np.random.default_rng(0).normal(size=(32, 5, 4)).astype("float32")
    _, report = penjing.prune_one_shot(
        keras.Model(inputs, outputs), x, 0.5, return_report=True, progress=False
    )
    assert "nothing flows into it" in str(report)


def test_the_sparsity_of_n_of_m_is_its_own():
    with pytest.raises(ValueError, match="NM.*makes 0.5 of the weights zero, got"):
        penjing.prune_one_shot(network(), images(8), 0.6, pattern=penjing.NM(2, 4))


def moved_means(model, x, path):
    """How far the means of the outputs move, of their spread; the bias makes up."""
    before = ops.convert_to_numpy(model(x))
    sparse = penjing.prune_one_shot(
        model, x, 0.5, include=[path], method="magnitude", progress=False
    )
    after = ops.convert_to_numpy(sparse(x))
    axes = tuple(range(before.ndim - 1))
    return np.abs((after - before).mean(axis=axes)).max() / before.std()


def test_means_stay_behind_a_transposed_convolution_with_padding():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 16)),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same", name="up"),
        ]
    )
    x = np.random.default_rng(0).normal(2, 1, size=(64, 4, 4, 16)).astype("float32")
    assert moved_means(model, x, "up*") < 1e-3


def test_a_mask_of_tokens_is_not_one_of_images():
    tokens, image = keras.Input((16,), dtype="int32"), keras.Input((16, 16, 3))
    words = layers.Embedding(9, 4, mask_zero=True)(tokens)
    shown = layers.Conv2D(4, 3, padding="same", name="seen")(image)
    pooled = layers.GlobalAveragePooling2D()(shown)
    model = keras.Model([tokens, image], [layers.LSTM(3)(words), pooled])
    rng = np.random.default_rng(0)
    ids = np.zeros((64, 16), "int32")
    ids[:, :3] = 1 + rng.integers(0, 8, (64, 3))
    bright = rng.normal(size=(64, 16, 16, 3)).astype("float32")
    bright[:, 8:] += 3
    before = ops.convert_to_numpy(model([ids, bright])[1])
    sparse = penjing.prune_one_shot(
        model, [ids, bright], 0.5, include=["seen*"], method="magnitude", progress=False
    )
    after = ops.convert_to_numpy(sparse([ids, bright])[1])
    assert np.abs((after - before).mean(axis=0)).max() < 0.05 * before.std()


def test_a_bias_in_another_order_than_the_kernel_is_left():
    layer = layers.EinsumDense("abc,cde->abed", (None, 3, 4), bias_axes="ed")
    model = keras.Sequential([keras.Input((5, 6)), layer])
    x = np.random.default_rng(0).normal(1, 1, size=(64, 5, 6)).astype("float32")
    bias = ops.convert_to_numpy(layer.bias)
    sparse = penjing.prune_one_shot(model, x, 0.5, progress=False)
    np.testing.assert_array_equal(sparse.layers[-1].bias, bias)


def test_blocks_across_groups_fall_where_one_mask_is_chosen():
    model = keras.Sequential([keras.Input((6, 6, 8)), layers.Conv2D(8, 3, groups=4)])
    sparse = penjing.prune_one_shot(
        model,
        None,
        0.5,
        method="magnitude",
        scope="layer",
        pattern=penjing.Block(1, 4),
        progress=False,
    )
    assert abs(penjing.sparsity_report(sparse).sparsity - 0.5) < 0.01
