"""`prune` and its options, `sparsity_report` and `strip`."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing import NM, Block, OneShot, PolynomialDecay, PruningConfig
from penjing.numerics.masks import erk_sparsities

X = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
Y = np.zeros((4, 2), "float32")


def three_layers():
    return keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(20, name="first"),
            layers.Dense(12, name="second"),
            layers.Dense(2, name="head"),
        ],
        name="net",
    )


def array(value):
    return keras.ops.convert_to_numpy(value).copy()


def advanced(pruned, steps=1, x=X):
    """`pruned` after training batches that only compute masks."""
    for _ in range(steps):
        pruned(x, training=True)
    return pruned


def weights(model):
    """Name of the owner -> its first weight."""
    return {layer.name: array(layer.weights[0]) for layer in model.layers}


def stripped_weights(pruned):
    return weights(penjing.strip(pruned))


def kept_first(scores, k):
    """The twin of a mask: a stable sort, highest first, ties by index."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.ravel(), kind="stable")[:k]] = True
    return mask.reshape(scores.shape)


def check_masks(pruned, model, kept, scores=np.abs):
    """Each weight equals the given one with all but its `kept` best at zero."""
    before = weights(model)
    for name, after in stripped_weights(pruned).items():
        mask = kept_first(scores(before[name]), kept[name])
        np.testing.assert_array_equal(after, np.where(mask, before[name], 0))


# Scope and allocation


def test_every_layer_keeps_exactly_its_largest_weights():
    model = three_layers()
    pruned = advanced(penjing.prune(model, OneShot(0.7)))
    check_masks(pruned, model, {"first": 48, "second": 72, "head": 7})


def test_a_constant_kernel_is_pruned_too():
    model = three_layers()
    model.layers[0].kernel.assign(np.ones((8, 20)))
    kernel = stripped_weights(advanced(penjing.prune(model, OneShot(0.75))))["first"]
    np.testing.assert_array_equal(np.flatnonzero(kernel), range(40))


def test_the_sparsity_follows_the_schedule_step_by_step():
    schedule = PolynomialDecay(
        initial_sparsity=0.1,
        final_sparsity=0.9,
        begin_step=2,
        end_step=7,
        power=2,
        frequency=2,
    )
    pruned = penjing.prune(three_layers(), schedule, include="second")
    zeros, expected, reached = [], [], 0
    for step in range(1, 10):
        advanced(pruned)
        if schedule.updates_at(step):
            reached = 240 - round(240 * (1 - schedule(step)))
        expected.append(reached)
        zeros.append(penjing.sparsity_report(pruned).sparsity * 240)
    np.testing.assert_allclose(zeros, expected)
    assert zeros[-1] == 216


def global_masks(scores, sparsity):
    """The twin: each layer's best 5 % of an even share first, then one ranking."""
    density = 1 - sparsity
    flat = []
    for score in scores:
        floor = max(int(0.05 * density * score.size), 1)
        flat.append(np.where(kept_first(score, floor), np.inf, score).ravel())
    joined = np.concatenate(flat)
    mask = kept_first(joined, max(round(density * joined.size), len(scores)))
    ends = np.cumsum([score.size for score in scores])[:-1]
    return [
        part.reshape(score.shape)
        for part, score in zip(np.split(mask, ends), scores, strict=True)
    ]


@pytest.mark.parametrize("importance", ["magnitude", "normalized_magnitude"])
def test_the_global_scope_ranks_all_weights_together(importance):
    model = three_layers()
    model.layers[0].kernel.assign(array(model.layers[0].kernel) * 3)
    schedule = OneShot(0.8)
    pruned = penjing.prune(model, schedule, scope="global", importance=importance)
    after = list(stripped_weights(advanced(pruned)).values())
    before = list(weights(model).values())
    scores = [np.abs(w) for w in before]
    if importance == "normalized_magnitude":
        scores = [s / np.sqrt(np.mean(s.astype("float64") ** 2)) for s in scores]
    for old, new, mask in zip(before, after, global_masks(scores, 0.8), strict=True):
        np.testing.assert_array_equal(new, np.where(mask, old, 0))
    assert sum(np.count_nonzero(w) for w in after) == round(424 * 0.2)


@pytest.mark.parametrize("sparsity", [0.9, 0.999])
def test_no_layer_dies_in_the_global_scope(sparsity):
    model = three_layers()
    model.layers[1].kernel.assign(array(model.layers[1].kernel) * 1e-9)
    model.layers[2].kernel.assign(np.zeros((12, 2)))
    pruned = advanced(penjing.prune(model, OneShot(sparsity), scope="global"))
    assert len(pruned.transforms[0].masks) == 3
    kept = [int(array(mask.value).sum()) for mask in pruned.transforms[0].masks]
    assert min(kept) >= 1
    assert sum(kept) == max(round(424 * (1 - sparsity)), 3)


def test_erk_cuts_large_layers_more_and_reaches_the_sparsity_together():
    model = three_layers()
    pruned = advanced(penjing.prune(model, OneShot(0.6), allocation="erk"))
    shapes = [(8, 20), (20, 12), (12, 2)]
    sparsities = erk_sparsities(shapes, 0.6)
    sizes = [int(np.prod(shape)) for shape in shapes]
    kept = [round(n * (1 - s)) for n, s in zip(sizes, sparsities, strict=True)]
    check_masks(
        pruned, model, dict(zip(["first", "second", "head"], kept, strict=True))
    )
    assert sparsities[1] > sparsities[0] > sparsities[2]
    assert sum(kept) == pytest.approx(424 * 0.4, abs=1.5)


def test_sparsities_by_layer_are_approached_in_proportion():
    schedule = PolynomialDecay(
        final_sparsity=0.5, begin_step=1, end_step=3, power=1, frequency=1
    )
    by_layer = {"first": 0.75, "he*": 0.0}
    pruned = penjing.prune(three_layers(), schedule, sparsity_by_layer=by_layer)
    advanced(pruned, 2)
    rows = compressed_rows(pruned)
    assert [row.zeros for row in rows] == [60, 60, 0]
    advanced(pruned)
    assert [row.zeros for row in compressed_rows(pruned)] == [120, 120, 0]


def compressed_rows(model):
    rows = penjing.sparsity_report(model).rows
    return [row for row in rows if row.status == "compressed"]


# Patterns


def matrices(model):
    """Kernels as (inputs, outputs), the input channel fastest along the inputs."""
    result = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        kernel = array(layer.kernel)
        if "Transpose" in type(layer).__name__:
            kernel = np.moveaxis(kernel, -2, -1)
        result[layer.name] = kernel.reshape(-1, kernel.shape[-1])
    return result


def convolutional():
    return keras.Sequential(
        [
            layers.Input((5, 5, 4)),
            layers.Conv2D(6, 3, name="conv"),
            layers.Conv2DTranspose(4, 2, name="up"),
            layers.Flatten(),
            layers.Dense(3, name="head"),
        ]
    )


IMAGES = np.random.default_rng(1).normal(size=(2, 5, 5, 4)).astype("float32")


@pytest.mark.parametrize(
    ("block", "pooling"), [((4, 1), "mean"), ((1, 2), "max"), ((5, 4), "mean")]
)
def test_blocks_fall_as_a_whole(block, pooling):
    model = convolutional()
    pattern = Block(*block, pooling)
    pruned = penjing.prune(model, OneShot(0.5), pattern=pattern, exclude="head")
    advanced(pruned, x=IMAGES)
    before, after = matrices(model), matrices(penjing.strip(pruned))
    for name in ("conv", "up"):
        mask = block_mask(np.abs(before[name]), *block, pooling)
        np.testing.assert_array_equal(after[name], np.where(mask, before[name], 0))


def block_mask(scores, rows, columns, pooling):
    down, across = -(-scores.shape[0] // rows), -(-scores.shape[1] // columns)
    place = np.arange(scores.shape[0])[:, None] // rows * across
    place = place + np.arange(scores.shape[1]) // columns
    pool = np.mean if pooling == "mean" else np.max
    pooled = np.array([pool(scores[place == i]) for i in range(down * across)])
    return kept_first(pooled, round(pooled.size * 0.5))[place]


def test_blocks_larger_than_a_matrix_are_skipped_with_the_reason():
    pruned = penjing.prune(three_layers(), OneShot(0.5), pattern=Block(16, 4))
    assert [row.path for row in compressed_rows(pruned)] == ["net/second/kernel"]
    reasons = {row.path: row.reason for row in penjing.sparsity_report(pruned).rows}
    assert "8 x 20 is smaller than a block of 16 x 4" in reasons["net/first/kernel"]
    with pytest.raises(penjing.UnsupportedModelError, match="smaller than a block"):
        penjing.prune(
            three_layers(), OneShot(0.5), pattern=Block(16, 4), include="first"
        )


def test_n_m_obeys_a_rising_schedule_and_ends_in_n_of_every_m():
    schedule = PolynomialDecay(
        final_sparsity=0.5, begin_step=1, end_step=3, power=1, frequency=1
    )
    model = convolutional()
    pruned = penjing.prune(model, schedule, pattern=NM(2, 4), exclude="up")
    zeros = []
    for _ in range(3):
        advanced(pruned, x=IMAGES)
        zeros.append([row.zeros for row in compressed_rows(pruned)])
    assert zeros == [[0, 0], [54, 48], [108, 96]]
    before, after = matrices(model), matrices(penjing.strip(pruned))
    for name in ("conv", "head"):
        runs = after[name].T.reshape(-1, 4)
        assert (np.count_nonzero(runs, axis=1) == 2).all()
        scores = np.abs(before[name]).T.reshape(-1, 4)
        expected = np.stack([kept_first(run, 2) for run in scores])
        np.testing.assert_array_equal(runs != 0, expected)


def test_n_m_skips_a_layer_that_m_does_not_divide():
    model = keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(6, name="first"),
            layers.Dense(2, name="head"),
        ]
    )
    pruned = penjing.prune(model, OneShot(0.5), pattern=NM(2, 4))
    reasons = {row.path: row.reason for row in penjing.sparsity_report(pruned).rows}
    assert (
        "6 input channels are no multiple of m=4" in reasons["sequential/head/kernel"]
    )


# Importance


@keras.saving.register_keras_serializable(package="penjing_tests")
def smallest_first(values):
    return 1.0 / (1.0 + keras.ops.abs(values))


def test_a_function_of_ones_own_ranks_the_weights(tmp_path):
    model = three_layers()
    pruned = penjing.prune(model, OneShot(0.75), importance=smallest_first)
    advanced(pruned)
    kept = {"first": 40, "second": 60, "head": 6}
    check_masks(pruned, model, kept, lambda w: 1 / (1 + np.abs(w)))
    pruned.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras")
    assert loaded.transforms[0].config.importance is smallest_first


def test_lamp_keeps_the_largest_weights_of_every_layer():
    model = three_layers()
    pruned = advanced(penjing.prune(model, OneShot(0.75), importance="lamp"))
    check_masks(pruned, model, {"first": 40, "second": 60, "head": 6})


def test_random_masks_are_nested_repeatable_and_blind_to_the_weights():
    schedule = PolynomialDecay(
        final_sparsity=0.8, begin_step=1, end_step=3, power=1, frequency=1
    )

    def masks(model):
        pruned = penjing.prune(model, schedule, importance="random")
        found = []
        for _ in range(3):
            after = stripped_weights(advanced(pruned))
            found.append(np.concatenate([w.ravel() != 0 for w in after.values()]))
        return found

    model = three_layers()
    first = masks(model)
    for layer in model.layers:
        layer.kernel.assign(array(layer.kernel)[::-1] + 5)
    for one, other in zip(first, masks(model), strict=True):
        np.testing.assert_array_equal(one, other)
    for earlier, later in zip(first, first[1:], strict=False):
        assert not (later & ~earlier).any()


@pytest.mark.parametrize(
    "function",
    [
        lambda w: w,
        lambda w: keras.ops.abs(w)[:1],
        lambda w: keras.ops.abs(w) * float("nan"),
    ],
    ids=["negative", "shape", "nan"],
)
def test_scores_that_cannot_be_ranked_are_refused(function):
    with pytest.raises(ValueError, match=r"non-negative scores of the weight's shape"):
        penjing.prune(three_layers(), OneShot(0.5), importance=function)


def test_a_weight_that_was_masked_does_not_come_back_with_its_old_value():
    model = three_layers()
    pruned = penjing.prune(
        model, penjing.ConstantSparsity(0.5, frequency=1), include="first"
    )
    before = stripped_weights(advanced(pruned))["first"]
    used = pruned.model.layers[0].kernel
    # Shrink all that is in use below what was masked.
    used.assign(np.where(before != 0, array(used) * 1e-3, array(used)))
    after = stripped_weights(advanced(pruned))["first"]
    np.testing.assert_array_equal(after != 0, before != 0)


# Include and exclude


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ("second", None, ["second"]),
        (["first", "he*"], None, ["first", "head"]),
        ("*/kernel", "net/second/kernel", ["first", "head"]),
        (None, ["first", "second"], ["head"]),
        ("net/first", None, ["first"]),
        (None, "*e*d", ["first"]),
    ],
)
def test_patterns_match_paths_and_names(include, exclude, chosen):
    pruned = penjing.prune(
        three_layers(), OneShot(0.5), include=include, exclude=exclude
    )
    assert [row.path.split("/")[1] for row in compressed_rows(pruned)] == chosen


@pytest.mark.parametrize("copy", [True, False])
def test_layers_of_the_given_model_are_named_by_themselves(copy):
    model = three_layers()
    pruned = penjing.prune(
        model, OneShot(0.5), include=model.layers, exclude=model.layers[0], copy=copy
    )
    paths = [row.path for row in compressed_rows(pruned)]
    assert paths == ["net/second/kernel", "net/head/kernel"]
    rows = {row.path: row.reason for row in penjing.sparsity_report(pruned).rows}
    assert rows["net/first/kernel"] == "excluded"


def test_a_layer_is_not_mistaken_for_one_of_the_same_name():
    encoder = keras.Sequential(
        [layers.Input((8,)), layers.Dense(4, name="fc")], name="encoder"
    )
    decoder = keras.Sequential(
        [layers.Input((4,)), layers.Dense(2, name="fc")], name="decoder"
    )
    inputs = layers.Input((8,))
    model = keras.Model(inputs, decoder(encoder(inputs)))
    pruned = penjing.prune(model, OneShot(0.5), include=decoder.layers[0])
    assert [row.path for row in compressed_rows(pruned)] == ["decoder/fc/kernel"]
    whole = penjing.prune(model, OneShot(0.5), include=encoder)
    assert [row.path for row in compressed_rows(whole)] == ["encoder/fc/kernel"]


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(penjing.UnsupportedModelError, match="Did you mean 'second'"):
        penjing.prune(three_layers(), OneShot(0.5), include="secnd")
    with pytest.raises(penjing.UnsupportedModelError, match="`exclude` names 'dens'"):
        penjing.prune(three_layers(), OneShot(0.5), exclude="dens")
    with pytest.raises(penjing.UnsupportedModelError, match="matches no weight"):
        penjing.prune(three_layers(), OneShot(0.5), include=layers.Dense(2, name="x"))


def test_a_named_layer_that_cannot_be_pruned_is_refused_with_the_reason():
    model = three_layers()
    model.layers[0].trainable = False
    with pytest.raises(
        penjing.UnsupportedModelError, match="frozen: it does not train"
    ):
        penjing.prune(model, OneShot(0.5), include="first")
    with pytest.raises(penjing.UnsupportedModelError, match="a bias, a scale"):
        penjing.prune(model, OneShot(0.5), include="*/bias")


def test_a_model_without_anything_to_prune_is_refused():
    with pytest.raises(penjing.UnsupportedModelError, match="no weight to compress"):
        penjing.prune(three_layers(), OneShot(0.5), exclude="*")


# The model given


def every_value(model):
    return [array(variable.value) for variable in model.variables]


def test_training_a_copy_leaves_the_given_model_alone():
    model = three_layers()
    before = every_value(model)
    pruned = penjing.prune(model, OneShot(0.5))
    pruned.compile("adam", "mse")
    pruned.fit(X, Y, epochs=2, verbose=0)
    assert not model.compiled
    for now, then in zip(every_value(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_without_a_copy_the_given_model_is_trained_and_given_back():
    model = three_layers()
    before = weights(model)
    pruned = penjing.prune(model, OneShot(0.5), copy=False)
    assert pruned.model is model
    pruned.compile("sgd", "mse")
    pruned.fit(X, Y, verbose=0)
    assert np.count_nonzero(weights(model)["first"]) == 80
    assert (weights(model)["head"] != before["head"]).any()
    stripped = penjing.strip(pruned, copy=False)
    assert stripped is model
    assert np.count_nonzero(weights(stripped)["second"]) == 120


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    model = three_layers()
    kernel = array(model.layers[1].kernel)
    kernel[3, :2] = bad
    model.layers[1].kernel.assign(kernel)
    with pytest.raises(
        penjing.CompressionError, match="'net/second/kernel' holds 2 NaN or infinite"
    ):
        penjing.prune(model, OneShot(0.5))


def test_nested_layers_of_one_name_are_told_apart():
    inputs = layers.Input((8,))
    outputs = layers.Dense(4, name="same")(inputs)
    inner_input = layers.Input((4,))
    inner = keras.Model(
        inner_input, layers.Dense(2, name="same")(inner_input), name="inner"
    )
    model = keras.Model(inputs, inner(outputs))
    pruned = penjing.prune(model, OneShot(0.5), include=["inner/same/kernel"])
    report = penjing.sparsity_report(pruned)
    assert [row.path for row in report.rows if row.status == "compressed"] == [
        "inner/same/kernel"
    ]


def test_a_model_in_pruning_is_not_pruned_again():
    pruned = penjing.prune(three_layers(), OneShot(0.5))
    with pytest.raises(penjing.UnsupportedModelError, match="being pruned already"):
        penjing.prune(pruned, OneShot(0.5))
    wrapped = penjing.prune_layer(layers.Dense(2), OneShot(0.5))
    model = keras.Sequential([layers.Input((8,)), wrapped])
    with pytest.raises(penjing.UnsupportedModelError, match="holds compressed layers"):
        penjing.prune(model, OneShot(0.5))


# Strip


def test_strip_is_exact_in_the_middle_of_an_epoch():
    pruned = penjing.prune(three_layers(), OneShot(0.75, step=2))
    pruned.compile("adam", "mse")
    for step in range(1, 4):
        pruned.train_on_batch(X, Y)
        stripped = penjing.strip(pruned)
        zeros = [row.zeros for row in penjing.sparsity_report(stripped).rows]
        assert zeros[::2] == ([0, 0, 0] if step < 2 else [120, 180, 18])
        np.testing.assert_array_equal(array(stripped(X)), array(pruned(X)))


def test_strip_leaves_the_model_in_training_as_it_was():
    pruned = advanced(penjing.prune(three_layers(), OneShot(0.75)))
    before = every_value(pruned)
    stripped = penjing.strip(pruned)
    stripped.layers[0].kernel.assign(np.zeros((8, 20)))
    for now, then in zip(every_value(pruned), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_an_untrained_model_is_stripped_with_a_warning():
    model = three_layers()
    pruned = penjing.prune(model, OneShot(0.5))
    with pytest.warns(penjing.CompressionWarning, match="was not trained since"):
        stripped = penjing.strip(pruned)
    np.testing.assert_array_equal(array(stripped(X)), array(model(X)))


def test_what_is_not_compressed_cannot_be_stripped():
    pruned = advanced(penjing.prune(three_layers(), OneShot(0.5)))
    for model in (three_layers(), penjing.strip(pruned), "net", None):
        with pytest.raises(penjing.UnsupportedModelError, match="nothing to strip"):
            penjing.strip(model)


def test_diverged_weights_are_not_stripped():
    pruned = advanced(penjing.prune(three_layers(), OneShot(0.5)))
    pruned.model.layers[0].kernel.assign(np.full((8, 20), np.nan))
    with pytest.raises(penjing.CompressionError, match="training diverged"):
        penjing.strip(pruned)


def test_an_unbuilt_model_has_nothing_to_strip_or_report():
    pruned = penjing.prune(keras.Sequential([layers.Dense(2)]), OneShot(0.5))
    with pytest.raises(penjing.UnsupportedModelError, match="not built yet"):
        penjing.strip(pruned)
    with pytest.raises(ValueError, match="must be a built Keras model"):
        penjing.sparsity_report(pruned)


# Report


def test_the_report_lists_every_weight_with_status_and_reason():
    model = three_layers()
    model.layers[2].trainable = False
    pruned = advanced(penjing.prune(model, OneShot(0.75), exclude="second"))
    report = penjing.sparsity_report(pruned)
    vector = "a bias, a scale or another vector"
    frozen = "frozen: it does not train"
    assert [dataclasses.astuple(row) for row in report.rows] == [
        ("net/first/kernel", (8, 20), 120, 41, "compressed", "", ("pruned",)),
        ("net/first/bias", (20,), 20, 1, "skipped", vector, ()),
        ("net/second/kernel", (20, 12), 0, 240, "skipped", "excluded", ()),
        ("net/second/bias", (12,), 12, 1, "skipped", "excluded", ()),
        ("net/head/kernel", (12, 2), 0, 24, "skipped", frozen, ()),
        ("net/head/bias", (2,), 2, 1, "skipped", frozen, ()),
    ]
    assert report.sparsity == 0.75
    assert (report.rows[0].size, report.rows[0].sparsity) == (160, 0.75)


def test_the_report_of_a_plain_model_says_what_could_be_compressed():
    model = three_layers()
    status = {row.path: row.status for row in penjing.sparsity_report(model).rows}
    assert status["net/first/kernel"] == "compressible"
    assert status["net/first/bias"] == "skipped"
    assert penjing.sparsity_report(model).sparsity == 0
    stripped = penjing.strip(advanced(penjing.prune(model, OneShot(0.5))))
    report = penjing.sparsity_report(stripped)
    assert [row.zeros for row in report.rows[::2]] == [80, 120, 12]
    assert report.sparsity == 0.5


def test_the_report_of_compressed_layers_shows_weights_and_no_engine_state():
    first = penjing.prune_layer(layers.Dense(4, name="first"), OneShot(0.5))
    second = penjing.prune_layer(layers.Dense(4, name="second"), OneShot(0.75))
    model = keras.Sequential([layers.Input((8,)), first, second, layers.Dense(2)])
    advanced(model)
    rows = penjing.sparsity_report(model).rows
    assert len(rows) == 6
    zeros = [row.zeros for row in rows if row.status == "compressed"]
    assert zeros == [16, 12]


def test_the_report_is_a_table_and_json():
    report = penjing.sparsity_report(
        advanced(penjing.prune(three_layers(), OneShot(0.75)))
    )
    lines = str(report).splitlines()
    assert len(lines) == 8
    assert lines[1].split() == [
        "net/first/kernel",
        "(8,",
        "20)",
        "120",
        "75.00%",
        "41",
        "compressed:",
        "pruned",
    ]
    assert lines[-1] == "sparsity of what is not skipped: 75.00%"
    data = json.loads(json.dumps(report.to_dict()))
    assert data["sparsity"] == 0.75
    assert data["rows"][0]["shape"] == [8, 20]
    assert data["rows"][0]["zeros"] == 120


@pytest.mark.parametrize("model", [None, "net", keras.Sequential([layers.Dense(2)])])
def test_what_is_no_built_model_has_no_report(model):
    with pytest.raises(ValueError, match="must be a built Keras model"):
        penjing.sparsity_report(model)


# Config


@pytest.mark.once
@pytest.mark.parametrize(
    "config",
    [
        PruningConfig(schedule=OneShot(0.5)),
        PruningConfig(
            schedule=PolynomialDecay(final_sparsity=0.5, begin_step=0, end_step=9),
            pattern=NM(2, 4),
            include=["a", "b*"],
            exclude="c",
        ),
        PruningConfig(
            schedule=OneShot(0.5),
            allocation="erk",
            pattern=Block(1, 4),
            importance="lamp",
            sparsity_by_layer={"head": 0.1},
        ),
        PruningConfig(schedule=OneShot(0.5), scope="global", importance=smallest_first),
    ],
    ids=["default", "n_m", "erk", "global"],
)
def test_a_config_survives_json(config):
    text = json.dumps(keras.saving.serialize_keras_object(config))
    restored = keras.saving.deserialize_keras_object(json.loads(text))
    listed = ["c"] if config.exclude else None
    assert restored == dataclasses.replace(config, exclude=listed)


@pytest.mark.once
def test_layers_in_a_config_become_their_names():
    config = PruningConfig(schedule=OneShot(0.5), include=layers.Dense(2, name="head"))
    assert config.get_config()["include"] == ["head"]


def test_l1_adds_the_magnitudes_of_the_kept_weights_to_the_loss():
    model = three_layers()
    penalized = penjing.prune(model, OneShot(0.5), l1=0.25)
    penalized.compile("sgd", "mse")
    loss = penalized.train_on_batch(X, Y)
    plain = penjing.prune(model, OneShot(0.5))
    plain.compile("sgd", "mse")
    kept = [np.sort(np.abs(w), None)[-w.size // 2 :] for w in weights(model).values()]
    expected = plain.train_on_batch(X, Y) + 0.25 * sum(map(np.sum, kept))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_l1_draws_kept_weights_to_zero():
    model = three_layers()
    penalized = penjing.prune(model, OneShot(0.5), l1=1.0)
    penalized.compile(keras.optimizers.SGD(1e-3), loss=lambda y, p: 0.0 * p[:, 0])
    penalized.train_on_batch(X, Y)
    before, after = weights(model), stripped_weights(penalized)
    for name, weight in before.items():
        kept = np.abs(weight) >= np.sort(np.abs(weight), None)[-weight.size // 2]
        expected = (weight - 1e-3 * np.sign(weight)) * kept
        np.testing.assert_allclose(after[name], expected, atol=1e-6)
