"""Scores of units: hand-made values, twins in plain loops, properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penjing.numerics import channel_importance as scoring
from penjing.numerics.channel_importance import UnitSlices

pytestmark = pytest.mark.once

KERNEL = np.arange(24, dtype="float32").reshape(2, 3, 4)


def cut(values, axis, units):
    return UnitSlices(
        values=np.asarray(values), axis=axis, units=np.asarray(units, "int32")
    )


def values_of(part, unit):
    """The values of one unit, picked position by position."""
    moved = np.moveaxis(part.values, part.axis, 0)
    picked = [moved[i] for i, owner in enumerate(part.units) if owner == unit]
    return [float(v) for slab in picked for v in slab.ravel()]


@st.composite
def groups(draw):
    size = draw(st.integers(1, 5))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
        axis = draw(st.integers(0, len(shape) - 1))
        units = draw(
            st.lists(
                st.integers(-1, size - 1), min_size=shape[axis], max_size=shape[axis]
            )
        )
        elements = st.floats(-9, 9, width=32)
        values = draw(hnp.arrays(np.float32, shape, elements=elements))
        parts.append(cut(values, axis, units))
    return parts, size


def test_totals_by_hand():
    part = cut(KERNEL, 2, [0, -1, 1, 0])
    # Columns 0 and 3 hold 0 3 4 7 ... 20 23, column 2 holds 2 6 10 ... 22.
    np.testing.assert_array_equal(part.totals(3), [138, 72, 0])
    np.testing.assert_array_equal(part.counts(3), [12, 6, 0])


@given(groups())
def test_norms_agree_with_sums_in_plain_loops(group):
    parts, size = group
    for unit in range(size):
        values = [v for part in parts for v in values_of(part, unit)]
        norm = math.sqrt(math.fsum(v * v for v in values))
        assert scoring.l2_norms(parts, size)[unit] == pytest.approx(norm, rel=1e-9)
        rms = norm / math.sqrt(max(len(values), 1))
        got = scoring.root_mean_squares(parts, size)[unit]
        assert got == pytest.approx(rms, rel=1e-9)
        total = math.fsum(abs(v) for v in values)
        got = scoring.scale_magnitudes(parts, size)[unit]
        assert got == pytest.approx(total, rel=1e-9)


def test_taylor_squares_each_batch_before_the_mean():
    # Changes of opposite sign must not cancel between batches.
    changes = [np.array([1.0, 2.0]), np.array([-1.0, 0.0])]
    np.testing.assert_allclose(scoring.taylor_scores(changes), [1.0, 2.0])


def test_lamp_by_hand():
    # 4 is the largest: 1. 1: 1 / (4 + 1). The second 1, of higher index: 1 / 6.
    np.testing.assert_allclose(scoring.lamp_scores([1, 4, 1]), [1 / 5, 1, 1 / 6])


@given(hnp.arrays(np.float64, st.integers(1, 9), elements=st.floats(0, 1e30)))
def test_lamp_agrees_with_its_definition(squares):
    got = scoring.lamp_scores(squares)
    for i, own in enumerate(squares):
        rivals = [s for j, s in enumerate(squares) if s > own or (s == own and j <= i)]
        expected = own / sum(rivals) if own else 0.0
        assert got[i] == pytest.approx(expected, rel=1e-6, abs=1e-290)


@given(hnp.arrays(np.float64, (7, 3), elements=st.floats(-5, 5)))
def test_variances_agree_with_numpy(values):
    got = scoring.variances(7, values.sum(axis=0), np.square(values).sum(axis=0))
    # Sums lose a few bits of what differences keep.
    np.testing.assert_allclose(got, values.var(axis=0), atol=1e-12)


def test_random_scores_repeat_and_differ_between_seeds():
    first = scoring.random_scores(50, [1, 2])
    np.testing.assert_array_equal(first, scoring.random_scores(50, [1, 2]))
    assert not np.array_equal(first, scoring.random_scores(50, [1, 3]))
    assert ((first >= 0) & (first < 1)).all()


@given(hnp.arrays(np.float64, st.integers(1, 9), elements=st.floats(0, 1e6)))
def test_the_mean_of_a_group_becomes_one_and_the_order_stays(scores):
    relative = scoring.relative_to_mean(scores)
    assert np.isfinite(relative).all()
    if scores.mean() > 1e-300:
        assert relative.mean() == pytest.approx(1)
    np.testing.assert_array_equal(
        np.argsort(relative, kind="stable"), np.argsort(scores, kind="stable")
    )
