"""The error measure by hand."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.export.verification import output_error


def test_the_error_is_relative_to_the_spread():
    expected = np.array([100.0, 104.0, 100.0, 104.0])  # Standard deviation 2.
    assert output_error(expected + 1.0, expected) == pytest.approx(0.5)
    assert output_error(expected, expected) == 0.0


def test_a_constant_output_is_measured_against_its_size():
    expected = np.full(4, 10.0)  # One percent of its size is 0.1.
    assert output_error(expected + 0.01, expected) == pytest.approx(0.1)
    assert output_error(np.zeros(4), np.zeros(4)) == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_gives_nan(value):
    assert np.isnan(output_error(np.array([1.0, value]), np.array([1.0, 2.0])))


def test_integers_count_differences():
    assert output_error(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.25
