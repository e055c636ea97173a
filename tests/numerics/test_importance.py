"""Scores, each against a twin written from its paper."""

import hypothesis
import hypothesis.extra.numpy as hnp
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from tests.numerics.compiling import array, compiled

from penjing.numerics import importance

SHAPES = st.sampled_from([(1,), (6,), (3, 4), (2, 3, 2)])
any_weights = SHAPES.flatmap(
    lambda shape: hnp.arrays(
        np.float32,
        shape,
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
usual_weights = SHAPES.flatmap(
    lambda shape: hnp.arrays(
        np.float32,
        shape,
        elements=st.one_of(
            st.sampled_from([0.0, 0.5, -0.5, 2.0]), st.floats(0.0078125, 10, width=32)
        ),
    )
)


def scores_of(name, weights):
    return array(importance.IMPORTANCES[name](keras.ops.convert_to_tensor(weights)))


def lamp_by_definition(weights):
    """Equation 3 of the paper, with indices sorted by magnitude as it asks."""
    squares = weights.astype(np.float64).ravel() ** 2
    # Ascending by magnitude; of equal ones the lower index comes later (ranks higher).
    order = sorted(range(squares.size), key=lambda i: (squares[i], -i))
    scores = np.zeros(squares.size)
    for place, u in enumerate(order):
        rivals = squares[order[place:]].sum()
        scores[u] = squares[u] / rivals if rivals else 0.0
    return scores.reshape(weights.shape)


def test_magnitude_by_hand():
    np.testing.assert_array_equal(
        scores_of("magnitude", np.float32([-2, 0, 1])), [2, 0, 1]
    )


@hypothesis.given(any_weights)
def test_magnitude_is_the_absolute_value(weights):
    np.testing.assert_array_equal(scores_of("magnitude", weights), np.abs(weights))


def test_half_precision_weights_are_scored_in_float32():
    weights = keras.ops.cast([0.5, -1.0], "bfloat16")
    for name, score in importance.IMPORTANCES.items():
        dtype = keras.backend.standardize_dtype(score(weights).dtype)
        assert dtype == "float32", name


def test_normalized_magnitude_by_hand():
    # The root mean square of (3, 4, 0, 0) is 2.5.
    scores = scores_of("normalized_magnitude", np.float32([3, -4, 0, 0]))
    np.testing.assert_allclose(scores, [1.2, 1.6, 0, 0], rtol=1e-6)


@hypothesis.given(usual_weights, st.sampled_from([0.25, 4.0, 1024.0]))
def test_normalized_magnitude_does_not_depend_on_the_scale(weights, scale):
    ours = scores_of("normalized_magnitude", weights)
    scaled = scores_of("normalized_magnitude", weights * np.float32(scale))
    np.testing.assert_allclose(scaled, ours, rtol=1e-5)
    root_mean_square = np.sqrt(np.mean(weights.astype(np.float64) ** 2))
    if root_mean_square:
        expected = np.abs(weights) / root_mean_square
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_lamp_by_hand():
    # Squares 1, 4, 9: 1 / 14, 4 / 13, 9 / 9.
    scores = scores_of("lamp", np.float32([1, -2, 3]))
    np.testing.assert_allclose(scores, [1 / 14, 4 / 13, 1], rtol=1e-6)


def test_lamp_ranks_equal_weights_by_index():
    scores = scores_of("lamp", np.float32([[1, -1], [1, 1]]))
    np.testing.assert_allclose(scores, [[1, 1 / 2], [1 / 3, 1 / 4]], rtol=1e-6)


@hypothesis.given(usual_weights)
def test_lamp_equals_its_numpy_twin(weights):
    # float32 running sums of at most 12 values.
    np.testing.assert_allclose(
        scores_of("lamp", weights), lamp_by_definition(weights), rtol=1e-5
    )


@hypothesis.given(usual_weights)
def test_lamp_of_the_heaviest_weight_is_one(weights):
    scores = scores_of("lamp", weights).ravel()
    heaviest = np.argmax(np.abs(weights))
    assert scores[heaviest] == (1 if np.abs(weights).max() > 0 else 0)


@pytest.mark.parametrize("name", importance.IMPORTANCES)
@hypothesis.given(weights=any_weights)
def test_scores_of_any_finite_weights_can_be_ranked(name, weights):
    scores = scores_of(name, weights)
    assert scores.shape == weights.shape
    assert (scores >= 0).all()  # NaN is not


@pytest.mark.parametrize("name", ["normalized_magnitude", "lamp"])
def test_huge_and_tiny_weights_keep_their_order(name):
    for scale in (1e-30, 1e30):
        scores = scores_of(name, np.float32([1, 2, 3, 4]) * np.float32(scale))
        assert (np.diff(scores) > 0).all(), (scale, scores)


def test_random_scores_follow_the_seed_and_ignore_the_weights():
    ones, zeros = np.ones((4, 5), np.float32), np.zeros((4, 5), np.float32)
    first = array(importance.random(keras.ops.convert_to_tensor(ones), seed=3))
    again = array(importance.random(keras.ops.convert_to_tensor(zeros), seed=3))
    other = array(importance.random(keras.ops.convert_to_tensor(ones), seed=4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert first.min() >= 0
    assert first.max() < 1


def test_random_scores_are_the_same_in_every_compiled_call():
    @compiled
    def scores(weights):
        return importance.random(weights, seed=1)

    weights = keras.ops.ones((3, 4))
    first, second = array(scores(weights)), array(scores(weights))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, array(importance.random(weights, seed=1)))
