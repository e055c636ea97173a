"""Sparsity patterns: units, their masks, obstacles, JSON."""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from tests.numerics.compiling import array, compiled

from penjing.numerics.masks import top_k_mask
from penjing.numerics.patterns import NM, Block, Unstructured

PATTERNS = [Unstructured(), Block(4, 1), Block(2, 3, "max"), NM(2, 4), NM(1, 3)]


@pytest.mark.once
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_a_pattern_survives_its_config_and_keras_serialization(pattern):
    assert type(pattern).from_config(pattern.get_config()) == pattern
    config = keras.saving.serialize_keras_object(pattern)
    assert keras.saving.deserialize_keras_object(config) == pattern


def test_unstructured_units_are_the_weights():
    scores = keras.ops.ones((3, 2))
    pattern = Unstructured()
    assert pattern.unit_scores(scores) is scores
    assert pattern.weight_mask(scores, (3, 2)) is scores
    assert pattern.obstacle(1, 1, 1) is None


def test_block_units_by_hand():
    scores = keras.ops.convert_to_tensor(np.float32([[1, 2], [3, 4], [5, 6]]))
    units = Block(2, 1).unit_scores(scores)
    np.testing.assert_array_equal(array(units), [[2, 3], [5, 6]])
    largest = Block(2, 1, pooling="max").unit_scores(scores)
    np.testing.assert_array_equal(array(largest), [[3, 4], [5, 6]])
    mask = Block(2, 1).weight_mask(units > 2.5, (3, 2))
    np.testing.assert_array_equal(array(mask), [[0, 1], [0, 1], [1, 1]])


@functools.cache
def mask_function(pattern):
    @compiled
    def mask(scores):
        kept = 24 * pattern.n // pattern.m
        return pattern.weight_mask(
            top_k_mask(pattern.unit_scores(scores), kept), (8, 3)
        )

    return mask


@hypothesis.given(
    hnp.arrays(np.float32, (8, 3), elements=st.floats(0, 9, width=32)),
    st.sampled_from([NM(2, 4), NM(1, 2), NM(3, 8)]),
)
def test_n_m_units_leave_the_best_of_every_run_for_the_end(scores, pattern):
    mask = array(mask_function(pattern)(keras.ops.convert_to_tensor(scores)))
    runs = mask.T.reshape(-1, pattern.m)
    assert (runs.sum(axis=1) == pattern.n).all()
    values = scores.T.reshape(-1, pattern.m)
    kept = np.where(runs, values, np.inf).min(axis=1)
    dropped = np.where(runs, -np.inf, values).max(axis=1)
    assert (kept >= dropped).all()


@pytest.mark.once
def test_obstacles_say_what_does_not_fit():
    assert Block(4, 1).obstacle(4, 1, 4) is None
    assert "3 x 9 is smaller than a block of 4 x 1" in Block(4, 1).obstacle(3, 9, 3)
    assert "9 x 2 is smaller than a block of 1 x 4" in Block(1, 4).obstacle(9, 2, 9)
    assert NM(2, 4).obstacle(72, 5, 8) is None
    assert "6 input channels are no multiple of m=4" in NM(2, 4).obstacle(12, 5, 6)


@pytest.mark.once
def test_n_m_accepts_only_the_sparsity_that_it_spells():
    NM(2, 4).check_sparsity(0.5)
    NM(1, 3).check_sparsity(2 / 3)
    with pytest.raises(ValueError, match=r"NM\(2, 4\) ends at a sparsity of 0.5"):
        NM(2, 4).check_sparsity(0.8)
    Block(4, 1).check_sparsity(0.8)


@pytest.mark.once
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", None])
def test_blocks_of_a_wrong_size_are_refused(value):
    with pytest.raises(ValueError, match="`rows` of a block must be an integer"):
        Block(value, 1)
    with pytest.raises(ValueError, match="`columns` of a block must be an integer"):
        Block(1, value)


@pytest.mark.once
def test_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="'mean' or 'max', got pooling='sum'"):
        Block(1, 4, pooling="sum")


@pytest.mark.once
@pytest.mark.parametrize("n_and_m", [(0, 4), (4, 4), (5, 4), (2.0, 4), (True, 4)])
def test_impossible_n_m_is_refused(n_and_m):
    with pytest.raises(ValueError, match="0 < n < m, got n="):
        NM(*n_and_m)
