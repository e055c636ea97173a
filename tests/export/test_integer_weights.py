"""Weights as integers with scales: by hand, and against a search of all scales."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.export.integer_weights import (
    integers_at,
    pack_int4,
    rounded_to_int4,
    weights_on_grid,
)
from penjing.tflite.tensors import TensorType

pytestmark = pytest.mark.once


def error_of_rounding(values, scale):
    integers = np.clip(np.round(values / scale), -7, 7)
    return ((values - integers * scale) ** 2).sum()


def test_packing_puts_the_first_integer_into_the_lower_half():
    assert pack_int4(np.int8([[1, 2], [-7, 7]])) == bytes([0x21, 0x79])
    assert pack_int4(np.int8([-1])) == bytes([0x0F])
    assert pack_int4(np.zeros((0,), "int8")) == b""


def test_scales_have_the_least_squared_error():
    values = np.random.default_rng(0).normal(size=(6, 5, 40)).astype("float32")
    values[3] = 0
    weights = rounded_to_int4(values, 0)
    assert weights.scales.shape == (6,)
    for channel, scale in zip(values, weights.scales, strict=True):
        steps = np.abs(channel).max() / 7 * np.linspace(0.2, 1.0, 2000) + 1e-9
        best = min(error_of_rounding(channel, step) for step in steps)
        assert error_of_rounding(channel, scale) <= 1.001 * best
    assert not weights.integers[3].any()
    assert rounded_to_int4(values, None).scales.shape == (1,)


def of_integers(scales):
    rng = np.random.default_rng(1)
    integers = rng.integers(-7, 8, (5, 40)).astype("float32")
    integers[:, 0] = 7
    return integers, (integers * scales).astype("float32")


@pytest.mark.parametrize("bits", [4, 8])
def test_one_scale_of_a_grid_is_found(bits):
    integers, values = of_integers(0.03)
    found = weights_on_grid(values, [0], bits)
    np.testing.assert_array_equal(found.integers, integers)
    np.testing.assert_allclose(found.scales, [0.03], rtol=1e-6)
    assert (found.channel_axis, found.bits) == (None, bits)


def test_a_scale_for_each_channel_is_found_along_the_axes_that_are_asked_for():
    scales = np.float32([[0.03], [0.5], [0.011], [2], [0.07]])
    integers, values = of_integers(scales)
    assert weights_on_grid(values, [], bits=4) is None
    found = weights_on_grid(values, [0], bits=4)
    np.testing.assert_array_equal(found.integers, integers)
    np.testing.assert_allclose(found.scales, scales[:, 0], rtol=1e-6)
    assert found.channel_axis == 0


def test_grids_of_more_levels_need_eight_bits():
    values = np.float32([[-100, 3, 4, 101]] * 2) * np.float32(0.25)
    assert weights_on_grid(values, [0], bits=4) is None
    found = weights_on_grid(values, [0], bits=8)
    np.testing.assert_array_equal(found.integers * found.scales[0], values)


def test_integers_end_at_the_ends_of_their_type():
    found = integers_at(np.float32([-9, 0.6, 9]), np.float32([1]), None, 4)
    assert found.integers.tolist() == [-7, 1, 7]
    assert found.stored() == bytes([0x19, 0x07])
    assert found.tensor_type == TensorType.INT4


def test_one_scale_spreads_over_the_channels_and_more_stay():
    single = integers_at(np.ones((3, 2), "float32"), np.float32([0.5]), None, 8)
    spread = single.spread(0)
    assert spread.scales.tolist() == [0.5, 0.5, 0.5]
    table = spread.quantization()
    assert table["scale"].tolist() == [0.5, 0.5, 0.5]
    assert table["zero_point"].tolist() == [0, 0, 0]
    assert spread.spread(1) is spread
    assert spread.tensor_type == TensorType.INT8
    assert spread.stored() == bytes([2] * 6)
