"""Masks: exactly k, ties by index, the same on every backend."""

import math

import hypothesis
import hypothesis.extra.numpy as hnp
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops
from tests.numerics.compiling import array, compiled

from penjing.numerics import masks, ranking

# Few shapes: every new one is compiled anew.
SHAPES = [(1,), (2,), (7,), (4, 6), (3, 2, 5), (64,)]
LARGEST = float(np.finfo(np.float32).max)
any_score = st.one_of(
    st.floats(0, width=32, allow_nan=False),  # subnormals and infinity included
    st.sampled_from([0.0, 1.0, 2.0, np.float32(1e-45), LARGEST, math.inf]),
)
few_scores = st.sampled_from([0.0, 0.5, 1.0])


@st.composite
def scores_and_k(draw):
    shape = draw(st.sampled_from(SHAPES))
    elements = draw(st.sampled_from([any_score, few_scores]))
    scores = draw(hnp.arrays(np.float32, shape, elements=elements))
    return scores, draw(st.integers(1, scores.size))


def top_k_by_sorting(scores, k):
    """The twin: a stable full sort of the scores, highest first."""
    mask = np.zeros(scores.size, dtype=bool)
    order = sorted(range(scores.size), key=lambda i: (-float(scores.flat[i]), i))
    mask[order[:k]] = True
    return mask.reshape(scores.shape)


@compiled
def compiled_top_k(scores, k):
    return masks.top_k_mask(scores, k)


def top_k(scores, k):
    """`top_k_mask` inside a compiled function, `k` known only when it runs."""
    tensor = keras.ops.convert_to_tensor(scores, "float32")
    return array(compiled_top_k(tensor, keras.ops.convert_to_tensor(k, "int32")))


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"),
    [
        (10, 0.0, 10),
        (10, 0.8, 2),
        (10, 0.99, 1),  # never none
        (10, 0.25, 8),  # 7.5 to the even 8
        (10, 0.75, 2),  # 2.5 to the even 2
        (1, 0.999, 1),
        (235_200, 0.8, 47_040),
    ],
)
def test_kept_count_rounds_half_to_even_and_keeps_at_least_one(size, sparsity, kept):
    assert int(masks.kept_count(size, sparsity)) == kept
    tensor = keras.ops.convert_to_tensor(sparsity, "float32")
    count = masks.kept_count(size, tensor)
    assert int(count) == kept
    assert keras.backend.standardize_dtype(count.dtype) == "int32"


@hypothesis.given(st.integers(1, 10_000_000), st.floats(0, 1, exclude_max=True))
def test_kept_count_equals_its_numpy_twin(size, sparsity):
    density = np.float32(1) - np.float32(sparsity)
    expected = min(max(int(np.rint(np.float32(size) * density)), 1), size)
    assert int(masks.kept_count(size, sparsity)) == expected


def test_top_k_keeps_the_largest_by_hand():
    scores = np.array([[0.5, 3.0, 0.1], [2.0, 0.0, 1.0]], np.float32)
    mask = array(masks.top_k_mask(keras.ops.convert_to_tensor(scores), 3))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [[False, True, False], [True, False, True]])


@hypothesis.given(scores_and_k())
def test_top_k_equals_a_stable_sort(case):
    scores, k = case
    mask = top_k(scores, k)
    assert mask.sum() == k
    np.testing.assert_array_equal(mask, top_k_by_sorting(scores, k))


def test_what_a_sample_tells_of_a_large_tensor_is_counted(monkeypatch):
    monkeypatch.setattr(ranking, "SAMPLED", 2**12)
    monkeypatch.setattr(ranking, "_SAMPLE", 2**9)
    shape = (128, 300)
    normal = np.abs(np.random.default_rng(0).normal(size=shape)).astype("float32")
    misled = np.full(normal.size, 0.5, "float32")
    stride = misled.size // 2**9 | 1
    misled[::stride], misled[1::stride] = 2, 1  # the sample sees the first alone
    function = compiled(masks.top_k_mask)
    for scores in (normal, misled.reshape(shape), np.where(normal > 1, normal, 0)):
        order = np.argsort(-scores, axis=None, kind="stable")
        tensor = ops.convert_to_tensor(scores)
        for kept in (1, 500, 7000, scores.size - 1, scores.size):
            found = array(function(tensor, ops.convert_to_tensor(kept, "int32")))
            places = np.flatnonzero(found)
            np.testing.assert_array_equal(places, np.sort(order[:kept]))


def test_a_sample_of_smooth_scores_narrows_the_search():
    scores = np.abs(np.random.default_rng(0).normal(size=2**16)).astype("float32")
    counts = ranking.Counts([ranking.bit_pattern(ops.convert_to_tensor(scores))])
    start = ranking.likely_bracket(counts, counts.number(13_000))
    n_low, n_high = int(start.n_low), int(start.n_high)
    assert n_high < 13_000 <= n_low < n_high + 2**12
    assert n_low == (scores >= np.int32(int(start.low)).view("float32")).sum()


@hypothesis.settings(max_examples=5)
@hypothesis.given(scores_and_k())
def test_top_k_gives_the_same_eagerly(case):
    scores, k = case
    mask = array(masks.top_k_mask(keras.ops.convert_to_tensor(scores), k))
    np.testing.assert_array_equal(mask, top_k_by_sorting(scores, k))


@hypothesis.given(scores_and_k())
def test_masks_of_rising_sparsity_are_nested(case):
    scores, k = case
    assert not (top_k(scores, max(k - 1, 1)) & ~top_k(scores, k)).any()


@pytest.mark.parametrize("value", [0.0, 1e-45, 1.0, LARGEST, math.inf])
def test_a_constant_tensor_keeps_its_first_k(value):
    mask = top_k(np.full((4, 6), value, np.float32), 5)
    np.testing.assert_array_equal(np.flatnonzero(mask), range(5))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_any_float_type_can_be_ranked(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is switched on for the process")
    scores = np.array([0.25, 1.0, 0.0, 0.5, 0.5, 2.0])
    mask = array(masks.top_k_mask(keras.ops.cast(scores, dtype), 3))
    np.testing.assert_array_equal(mask, [False, True, False, True, False, True])


@st.composite
def several_scores(draw):
    elements = draw(st.sampled_from([any_score, few_scores]))
    scores = [
        draw(hnp.arrays(np.float32, shape, elements=elements))
        for shape in [(4, 6), (7,), (1,)]
    ]
    least = [draw(st.integers(0, 3)) for _ in scores[:2]] + [draw(st.integers(0, 1))]
    return scores, draw(st.integers(1, sum(s.size for s in scores))), least


def top_k_joined(scores, k, least):
    """The twin: each one's best few are made infinite, then one stable sort of all."""
    sizes, left = [score.size for score in scores], k
    joined = []
    for score, floor in zip(scores, least, strict=True):
        floor = min(floor, left)
        left -= floor
        first = top_k_by_sorting(score, floor)
        joined.append(np.where(first, np.nan, score).ravel())
    joined = np.concatenate(joined)
    place = [(not np.isnan(v), -v, i) for i, v in enumerate(joined)]
    kept = sorted(range(joined.size), key=lambda i: (place[i][0], *place[i][1:]))[:k]
    mask = np.isin(np.arange(joined.size), kept)
    parts = np.split(mask, np.cumsum(sizes)[:-1])
    return [p.reshape(s.shape) for p, s in zip(parts, scores, strict=True)]


@compiled
def compiled_top_k_masks(scores, k, least):
    return masks.top_k_masks(scores, k, least)


@hypothesis.given(several_scores())
def test_several_tensors_are_ranked_together_after_the_best_of_each(case):
    scores, k, least = case
    found = compiled_top_k_masks(
        [keras.ops.convert_to_tensor(score) for score in scores],
        keras.ops.convert_to_tensor(k, "int32"),
        [keras.ops.convert_to_tensor(floor, "int32") for floor in least],
    )
    assert sum(int(array(mask).sum()) for mask in found) == k
    for mask, twin in zip(found, top_k_joined(scores, k, least), strict=True):
        np.testing.assert_array_equal(array(mask), twin)


class ManyScores(ranking.Counts):
    """Three thousand million scores, evenly spread over the patterns below 2^30."""

    def __init__(self):
        self.size, self.floors = 3_000_000_000, None

    def of_all(self, probe):
        return self.size - (probe * self.size >> 30)

    def at_least(self, probe):
        if keras.backend.backend() == "torch":
            return self.of_all(probe)
        # In steps of 2^20 patterns, so that no product is too large.
        return self.number(self.size) - self.number(probe // 2**20) * 2_929_687

    def bracket(self):
        end = 2**30 if keras.backend.backend() == "torch" else ops.cast(2**30, "int32")
        return ranking.Bracket(end * 0, self.number(self.size), end, self.number(0))


def test_more_than_2_to_the_31_scores_are_counted():
    many = ManyScores()
    k = many.number(2_500_000_000)
    found = ranking.search(many, k, many.bracket())
    assert int(found.n_low) >= 2_500_000_000 > int(found.n_high)
    assert int(found.low) == pytest.approx(2**30 / 6, abs=2**20)
    kept = int(masks.kept_count(3_000_000_000, 0.25))
    assert kept == int(np.float32(3e9) * np.float32(0.75)) > 2**31
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match="at most 4,294,967,295 values"):
            ranking.count_dtype(2**32)


def test_negative_zero_is_zero():
    scores = np.array([-0.0, 0.0, 1.0, -0.0, 2.0, 0.0], np.float32)
    np.testing.assert_array_equal(np.flatnonzero(top_k(scores, 4)), [0, 1, 2, 4])


@pytest.mark.parametrize("power", [1, 30, -30])
@pytest.mark.parametrize("k", [1, 2, 500, 4_095, 4_096])
def test_skewed_scores_of_a_large_tensor_are_cut_exactly(power, k):
    draws = np.random.default_rng(0).uniform(0.1, 1, 4_096).astype(np.float32)
    scores = draws**power
    expected = np.argsort(-scores, kind="stable")[:k]
    np.testing.assert_array_equal(np.flatnonzero(top_k(scores, k)), np.sort(expected))


def test_scores_that_defeat_interpolation_still_end():
    """One weight at the top of the range and all others a few bits apart."""
    scores = np.zeros(4_096, np.float32)
    scores.view(np.int32)[:] = 1_000_000 + np.arange(4_096) // 2
    scores[7] = LARGEST
    expected = np.argsort(-scores, kind="stable")[:1_000]
    mask = top_k(scores, 1_000)
    np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(expected))


@compiled
def compiled_two_of_four(scores):
    return masks.n_m_mask(scores, n=2, m=4)


def n_m_by_runs(scores, n, m):
    runs = scores.reshape(-1, m)
    return np.stack([top_k_by_sorting(run, n) for run in runs]).reshape(scores.shape)


def test_n_m_mask_by_hand():
    scores = np.array([[1, 3, 2, 0, 5, 5, 5, 5]], np.float32)
    mask = array(masks.n_m_mask(keras.ops.convert_to_tensor(scores), n=2, m=4))
    expected = [[False, True, True, False, True, True, False, False]]
    np.testing.assert_array_equal(mask, expected)


@hypothesis.given(
    hnp.arrays(np.float32, (3, 12), elements=st.one_of(any_score, few_scores)),
    st.sampled_from([(1, 2), (2, 4), (1, 3), (4, 6), (3, 3), (1, 1)]),
)
def test_n_m_mask_equals_a_sort_of_every_run(scores, n_and_m):
    n, m = n_and_m
    mask = array(masks.n_m_mask(keras.ops.convert_to_tensor(scores), n, m))
    np.testing.assert_array_equal(mask, n_m_by_runs(scores, n, m))


@hypothesis.given(hnp.arrays(np.float32, (6, 8), elements=st.floats(0, 9, width=32)))
def test_kept_scores_dominate_dropped_scores(scores):
    mask = array(compiled_two_of_four(scores)).reshape(-1, 4)
    runs = scores.reshape(-1, 4)
    kept = np.where(mask, runs, np.inf).min(axis=-1)
    dropped = np.where(mask, -np.inf, runs).max(axis=-1)
    assert (mask.sum(axis=-1) == 2).all()
    assert (kept >= dropped).all()


def test_indivisible_axis_is_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"m=4, got shape \(3, 6\).*exclude"):
        masks.n_m_mask(np.zeros((3, 6)), n=2, m=4)


@pytest.mark.parametrize("n", [0, -1, 5])
def test_n_out_of_range_is_refused(n):
    with pytest.raises(ValueError, match=f"1 to m=4, got n={n}"):
        masks.n_m_mask(np.zeros((3, 8)), n=n, m=4)


def pooled_by_loops(scores, rows, columns, pooling):
    down = math.ceil(scores.shape[0] / rows)
    across = math.ceil(scores.shape[1] / columns)
    pooled = np.empty((down, across), np.float64)
    for i in range(down):
        for j in range(across):
            block = scores[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            pooled[i, j] = (
                block.mean(dtype=np.float64) if pooling == "mean" else block.max()
            )
    return pooled


def test_pool_blocks_by_hand_with_partial_blocks_at_the_edges():
    scores = np.arange(15, dtype=np.float32).reshape(3, 5)
    tensor = keras.ops.convert_to_tensor(scores)
    mean = array(masks.pool_blocks(tensor, 2, 2, "mean"))
    np.testing.assert_array_equal(mean, [[3, 5, 6.5], [10.5, 12.5, 14]])
    largest = array(masks.pool_blocks(tensor, 2, 2, "max"))
    np.testing.assert_array_equal(largest, [[6, 8, 9], [11, 13, 14]])


@hypothesis.given(
    hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1000, width=32)),
    st.sampled_from([(1, 1), (2, 3), (4, 1), (1, 4), (5, 7), (8, 9)]),
    st.sampled_from(["mean", "max"]),
)
def test_pool_blocks_equals_its_numpy_twin(scores, block, pooling):
    pooled = array(
        masks.pool_blocks(keras.ops.convert_to_tensor(scores), *block, pooling)
    )
    # float32 sums of at most 35 values against float64 ones.
    np.testing.assert_allclose(
        pooled, pooled_by_loops(scores, *block, pooling), rtol=1e-5, atol=1e-6
    )


@hypothesis.given(
    st.sampled_from([(1, 1), (2, 3), (4, 1), (1, 4), (5, 7), (8, 9)]), st.data()
)
def test_expand_blocks_fills_every_block_with_its_value(block, data):
    rows, columns = block
    shape = (math.ceil(5 / rows), math.ceil(7 / columns))
    mask = data.draw(hnp.arrays(np.bool_, shape))
    tensor = keras.ops.convert_to_tensor(mask)
    full = array(masks.expand_blocks(tensor, rows, columns, (5, 7)))
    assert full.dtype == bool
    expected = [[mask[i // rows, j // columns] for j in range(7)] for i in range(5)]
    np.testing.assert_array_equal(full, expected)
