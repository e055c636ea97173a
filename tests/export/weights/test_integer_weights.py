"""Weights as integers with scales: by hand, and against a search of all scales."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.export.weights.integer_weights import (
    as_integers,
    integers_at,
    pack_int4,
    rounded_to_int4,
    weights_on_grid,
)
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, data_of

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
    assert spread.spread(1) is spread
    assert spread.tensor_type == TensorType.INT8
    assert spread.stored() == bytes([2] * 6)


@pytest.mark.parametrize(("bits", "highest"), [(4, 7), (8, 127)])
def test_tensors_get_the_integers_their_type_and_their_scales(bits, highest):
    tensor = Record("Tensor", shape=np.array([2, 3], "<i4"), name=b"kernel")
    model = Record("Model", subgraphs=[Record("SubGraph", tensors=[tensor])])
    values = np.float32([[1, 2, -3], [0, 4, 5]])
    scales = np.float32([3 / highest, 5 / highest, 1])
    weights = integers_at(values, scales[:2], 0, bits)
    weights.put(model, tensor)
    assert data_of(model, tensor).tobytes() == weights.stored()
    assert TensorType(tensor["type"]).bits == bits
    np.testing.assert_array_equal(tensor["quantization"]["scale"], scales[:2])
    assert weights.integers[0, 2] == -highest


def test_small_weights_on_no_grid_are_left_to_others():
    rng = np.random.default_rng(2)
    small = rng.normal(size=(8, 16)).astype("float32")
    large = rng.normal(size=(16, 80)).astype("float32")
    for bits in (4, 8):
        assert as_integers(small, {0}, bits) is None
        assert as_integers(large, {0}, bits).scales.shape == (16,)
    # Readers that count channels along different axes: one scale, or none at all.
    assert as_integers(large, {0, 1}, 4).scales.shape == (1,)
    assert as_integers(large, {0, 1}, 8) is None


def test_eight_bits_take_the_largest_of_each_channel():
    values = np.random.default_rng(3).normal(size=(16, 80)).astype("float32")
    values[3] = 0
    found = as_integers(values, {0}, bits=8)
    wanted = np.abs(values).max(axis=1) / 127
    wanted[3] = 1
    np.testing.assert_allclose(found.scales, wanted, rtol=1e-6)
    assert np.abs(found.integers).max(axis=1).tolist() == [127] * 3 + [0] + [127] * 12


def test_few_values_stay_few_with_one_scale():
    values = np.random.default_rng(4).choice(
        np.float32([-0.913, -0.2, 0.0, 0.31, 0.777]), (16, 80)
    )
    found = as_integers(values, {0}, bits=8)
    assert found.channel_axis is None
    assert np.unique(found.integers).size == 5
