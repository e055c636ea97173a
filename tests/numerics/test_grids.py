"""Grids: rounding, its gradients, and the search for a scale, against NumPy twins."""

import json

import hypothesis
import hypothesis.extra.numpy as hnp
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from tests.numerics.compiling import array, compiled

from penjing.numerics import grids
from penjing.numerics.grids import Grid


def gradients(function, *arrays):
    """Gradients of a scalar function with respect to float32 arrays."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        grad = jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))
        return [np.asarray(g) for g in grad(*map(keras.ops.array, arrays))]
    if backend == "torch":
        import torch

        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        function(*tensors).backward()
        return [t.grad.numpy() for t in tensors]
    import tensorflow as tf

    variables = [tf.Variable(a) for a in arrays]
    with tf.GradientTape() as tape:
        value = tf.function(function)(*variables)
    return [g.numpy() for g in tape.gradient(value, variables)]


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "lowest", "highest"),
    [
        ({}, -127, 127),
        ({"bits": 4}, -7, 7),
        ({"bits": 2}, -1, 1),
        ({"levels": 15}, -7, 7),
        ({"levels": 7}, -3, 3),
        ({"levels": 3, "bits": 2}, -1, 1),
        ({"symmetric": False}, -128, 127),
        ({"narrow_range": False}, -128, 127),
        ({"bits": 4, "narrow_range": False}, -8, 7),
        ({"bits": 16}, -32767, 32767),
        ({"levels": 16}, -8, 7),
    ],
)
def test_range_of_a_grid(arguments, lowest, highest):
    grid = Grid(**arguments)
    assert (grid.lowest, grid.highest) == (lowest, highest)


@pytest.mark.once
def test_a_grid_survives_json_and_keras():
    grid = Grid(bits=4, levels=7, granularity="per_tensor", symmetric=False)
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(grid)))
    )
    assert again == grid
    assert again.narrow_range is False


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 1}, "`bits` must be an integer from 2 to 16, got 1"),
        ({"bits": 17}, "got 17"),
        ({"bits": 8.0}, "got 8.0"),
        ({"bits": True}, "got True"),
        ({"levels": 2}, "`levels` must be an integer from 3"),
        ({"levels": 17, "bits": 4}, r"2\*\*bits = 16, got 17"),
        ({"granularity": "per_group"}, "'per_channel', 'per_tensor', got 'per_group'"),
        ({"symmetric": 1}, "`symmetric` must be a bool"),
        ({"narrow_range": "yes"}, "`narrow_range` must be a bool or None"),
    ],
)
def test_grids_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(**arguments)


@pytest.mark.parametrize(
    ("value", "scale", "zero_point", "integer"),
    [
        (0.25, 0.5, 0, 0),  # halves go to the even integer
        (0.75, 0.5, 0, 2),
        (-0.75, 0.5, 0, -2),
        (1.25, 0.5, 3, 5),
        (1e30, 0.5, 0, 7),
        (-1e38, 1e-3, 0, -8),
        (0.0, 1e-30, 5, 5),
    ],
)
def test_integers_by_hand(value, scale, zero_point, integer):
    found = grids.quantize_affine(np.float32(value), scale, zero_point, -8, 7)
    assert int(found) == integer
    assert keras.backend.standardize_dtype(found.dtype) == "int32"


values_and_scales = st.tuples(
    hnp.arrays(np.float32, (6, 4), elements=st.floats(-9, 9, width=32)),
    hnp.arrays(np.float32, (1, 4), elements=st.floats(2**-10, 4, width=32)),
    st.integers(-7, 7),
)


@compiled
def compiled_fake_quantize(values, scale, zero_point):
    return grids.fake_quantize(values, scale, zero_point, -7, 7, scale_gradient=0.1)


@hypothesis.given(values_and_scales)
def test_compiled_rounding_matches_numpy_bit_by_bit(case):
    values, scale, zero_point = case
    integers = np.clip(np.rint(values / scale) + zero_point, -7, 7)
    wanted = ((integers - zero_point) * scale).astype("float32")
    tensors = [keras.ops.convert_to_tensor(a) for a in (values, scale)]
    point = keras.ops.convert_to_tensor(zero_point, "int32")
    found = array(compiled_fake_quantize(*tensors, point))
    np.testing.assert_array_equal(found, wanted)
    assert (found[values == 0] == 0).all()
    eager = grids.quantize_affine(*tensors, point, -7, 7)
    np.testing.assert_array_equal(array(eager), integers)
    again = grids.dequantize_affine(eager, scale, zero_point)
    np.testing.assert_array_equal(array(again), wanted)


@pytest.mark.parametrize("zero_point", [0, 2])
def test_gradients_are_those_of_lsq(zero_point):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(40, 3)).astype("float32")
    values[::5] = 0.0
    scale = np.array([[0.1, 0.3, 0.02]], "float32")
    upstream = rng.normal(size=values.shape).astype("float32")

    def loss(v, s):
        rounded = grids.fake_quantize(v, s, zero_point, -7, 7, scale_gradient=0.25)
        return keras.ops.sum(rounded * keras.ops.convert_to_tensor(upstream))

    by_value, by_scale = gradients(loss, values, scale)
    steps = values / scale
    below, above = steps + zero_point < -7, steps + zero_point > 7
    assert below.any() and above.any()
    slope = np.where(
        below, -7 - zero_point, np.where(above, 7 - zero_point, np.rint(steps) - steps)
    )
    np.testing.assert_array_equal(by_value, np.where(below | above, 0, upstream))
    wanted = 0.25 * (upstream * slope).sum(axis=0, keepdims=True)
    # Sums of 40 products in another order.
    np.testing.assert_allclose(by_scale, wanted, rtol=1e-5, atol=1e-5)
    assert not slope[::5].any()  # zeros add nothing


def test_a_scale_that_is_not_learned_gets_no_gradient():
    values = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)

    def loss(v, s):
        rounded = grids.fake_quantize(v, s, 0, -7, 7)
        return keras.ops.sum(rounded) + 0.0 * keras.ops.sum(s)

    by_value, by_scale = gradients(loss, values, np.float32([[0.3]]))
    np.testing.assert_array_equal(by_value, np.ones_like(values))
    np.testing.assert_array_equal(by_scale, [[0.0]])


@pytest.mark.once
def test_gradient_scale_by_hand():
    assert grids.lsq_gradient_scale(100, 4) == pytest.approx(1 / 20)
    assert grids.lsq_gradient_scale(0, 0) == 1.0


@hypothesis.given(
    st.floats(-100, 100, width=32),
    st.floats(-100, 100, width=32),
    st.sampled_from([(-128, 127), (-127, 127), (0, 15)]),
)
def test_ranges_hold_zero_exactly(first, second, integers):
    low, high = sorted((first, second))
    lowest, highest = integers
    scale, zero_point = grids.range_to_scale(
        np.float32(low), np.float32(high), lowest, highest
    )
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-30:
        return
    assert float(scale) == pytest.approx((high - low) / (highest - lowest), rel=1e-6)
    assert lowest <= int(zero_point) <= highest
    # The range moves by half a step at most, and by what float32 loses.
    assert abs((lowest - int(zero_point)) * float(scale) - low) <= 0.501 * float(scale)


def test_scales_of_empty_and_symmetric_ranges():
    scale, zero_point = grids.range_to_scale(np.zeros(2), np.zeros(2), -128, 127)
    np.testing.assert_array_equal(array(scale), [1, 1])
    scale, zero_point = grids.range_to_scale(
        np.float32([-6.0, 0.0]), np.float32([3.0, 12.7]), -127, 127, symmetric=True
    )
    np.testing.assert_allclose(array(scale), [6 / 127, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(array(zero_point), [0, 0])


def squared_error(values, scale, highest):
    rounded = np.clip(np.rint(values / scale), -highest, highest) * scale
    return ((values - rounded) ** 2).sum()


@compiled
def compiled_mse_scale(values):
    return [grids.mse_scale(values, -h, h, (0,)) for h in (1, 7, 127)]


def test_no_scale_of_a_fine_search_is_much_better():
    rng = np.random.default_rng(3)
    values = np.stack(
        [rng.normal(size=300), rng.laplace(size=300) ** 3, rng.uniform(-1, 1, 300)],
        axis=1,
    ).astype("float32")
    values[np.abs(values) < 0.5] = 0.0
    found = compiled_mse_scale(keras.ops.convert_to_tensor(values))
    for highest, scales in zip((1, 7, 127), found, strict=True):
        assert scales.shape == (1, 3)
        for column, scale in zip(values.T, array(scales)[0], strict=True):
            fine = np.abs(column).max() / highest * np.geomspace(0.02, 1.1, 3000)
            best = min(squared_error(column, s, highest) for s in fine)
            assert squared_error(column, scale, highest) <= 1.1 * best
        on_host = grids.mse_scale(values, -highest, highest, (0,))
        assert isinstance(on_host, np.ndarray)
        assert on_host.dtype == np.float32
        np.testing.assert_allclose(array(scales), on_host, rtol=1e-5)  # order of sums


def test_values_on_a_grid_find_it():
    rng = np.random.default_rng(4)
    integers = rng.integers(-7, 8, (200, 2))
    integers[:2] = [[7, -7], [-7, 7]]
    values = (integers * np.float32([0.013, 0.4])).astype("float32")
    scale = array(grids.mse_scale(keras.ops.convert_to_tensor(values), -7, 7, (0,)))
    np.testing.assert_allclose(scale, [[0.013, 0.4]], rtol=1e-6)


def test_channels_of_zeros_take_the_scale_of_the_others():
    values = np.zeros((4, 3), "float32")
    values[:, 1] = [1, -2, 3, 4]
    scale = array(grids.mse_scale(keras.ops.convert_to_tensor(values), -7, 7, (0,)))
    assert scale[0, 0] == scale[0, 2] == scale[0, 1] > 0
    empty = grids.mse_scale(keras.ops.zeros((4, 3)), -7, 7, (0, 1))
    assert array(empty).tolist() == [[1.0]]


def test_least_squares_scale_by_hand():
    values = keras.ops.convert_to_tensor(np.float32([[1.1], [2.0], [0.0]]))
    scale = keras.ops.ones((1, 1))
    found = array(grids.least_squares_scale(values, scale, -7, 7, (0,)))
    np.testing.assert_allclose(found, [[(1.1 * 1 + 2 * 2) / 5]], rtol=1e-6)
    zeros = grids.least_squares_scale(0 * values, 3 * scale, -7, 7, (0,))
    assert float(array(zeros)[0, 0]) == 3
