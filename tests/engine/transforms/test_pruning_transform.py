"""Masks: which weights fall, when, and what training does to the others."""

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.pruning_cases import (
    IMAGES,
    X,
    Y,
    advanced,
    array,
    check_masks,
    compressed_rows,
    convolutional,
    kept_first,
    matrices,
    smallest_first,
    stripped_weights,
    three_layers,
    weights,
)
from tests.jax_cases import few_on_jax

import penjing
from penjing import NM, Block, OneShot, PolynomialDecay
from penjing.numerics.masks import erk_sparsities


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


def test_weights_in_bfloat16_have_boolean_masks_and_stay_what_they_are():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(20, dtype="bfloat16", name="hidden"),
            layers.Dense(2, dtype="bfloat16", name="head"),
        ]
    )
    pruned = advanced(penjing.prune(model, OneShot(0.7)))
    masks = pruned.transforms[0].masks
    assert {keras.backend.standardize_dtype(mask.dtype) for mask in masks} == {"bool"}
    assert [int(array(mask.value).sum()) for mask in masks] == [48, 12]
    for layer, kept in zip(penjing.strip(pruned).layers, (48, 12), strict=True):
        assert keras.backend.standardize_dtype(layer.kernel.dtype) == "bfloat16"
        kernel = array(keras.ops.cast(layer.kernel.value, "float32"))
        assert np.count_nonzero(kernel) == kept


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


@pytest.mark.parametrize(
    "importance",
    few_on_jax(["magnitude", "normalized_magnitude"], "normalized_magnitude"),
)
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


@pytest.mark.parametrize("sparsity", few_on_jax([0.9, 0.999], 0.999))
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


@pytest.mark.parametrize(
    ("block", "pooling"),
    [
        ((1, 2), "max"),
        pytest.param((4, 1), "mean", marks=pytest.mark.costly_on_jax),
        pytest.param((5, 4), "mean", marks=pytest.mark.costly_on_jax),
    ],
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
