"""How weights are named, chosen, and seen as matrices."""

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import layers

import penjing
from penjing.models.selection import (
    SelectedWeight,
    find_weights,
    matches_layer,
    select_weights,
)


def selected(layer, shape):
    """The chosen weights of a one-layer model."""
    return select_weights(keras.Sequential([layers.Input(shape), layer])).chosen


@pytest.mark.costly_on_jax
@pytest.mark.parametrize(
    ("layer", "shape", "matrix_shape", "input_channels"),
    [
        (layers.Dense(3), (5,), (5, 3), 5),
        (layers.Conv1D(3, 2), (6, 5), (10, 3), 5),
        (layers.Conv2D(3, (2, 4)), (6, 6, 5), (40, 3), 5),
        (layers.Conv2D(4, 2, groups=2), (6, 6, 8), (16, 4), 4),
        (layers.Conv3D(3, 2), (4, 4, 4, 5), (40, 3), 5),
        (layers.Conv1DTranspose(3, 2), (6, 5), (10, 3), 5),
        (layers.Conv2DTranspose(3, (2, 4)), (6, 6, 5), (40, 3), 5),
        (layers.SeparableConv2D(3, 2), (6, 6, 5), (5, 3), 5),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (4, 5), (5, 6), 5),
        (layers.EinsumDense("abc,bcd->abd", (2, 3)), (2, 5), (10, 3), 5),
        (layers.EinsumDense("...x,yx->...y", 3), (5,), (5, 3), 5),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_weight_is_seen_as_inputs_by_outputs(
    layer, shape, matrix_shape, input_channels
):
    (weight,) = selected(layer, shape)
    assert weight.matrix_shape == matrix_shape
    assert weight.input_channels == input_channels
    assert weight.size == np.prod(weight.shape) == np.prod(matrix_shape)


def test_rows_of_a_matrix_are_what_one_output_is_made_of():
    """An output unit uses its column: zeroing it silences that output alone."""
    inputs = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    for layer in (
        layers.Conv2D(5, 2, use_bias=False),
        layers.Conv2DTranspose(5, 2, use_bias=False),
        layers.EinsumDense("abcd,de->abce", (None, None, 5)),
    ):
        (weight,) = selected(layer, (4, 4, 3))
        matrix = np.ones(weight.matrix_shape, "float32")
        matrix[:, 2] = 0
        values = weight.from_matrix(keras.ops.convert_to_tensor(matrix))
        weight.variable.assign(values)
        outputs = keras.ops.convert_to_numpy(layer(inputs))
        silent = np.abs(outputs).max(axis=(0, 1, 2)) == 0
        np.testing.assert_array_equal(silent, [False, False, True, False, False])


@st.composite
def shapes_and_output_axes(draw):
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    axes = st.sets(st.integers(0, len(shape) - 1), min_size=1)
    return shape, tuple(sorted(draw(axes)))


@pytest.mark.costly_on_jax
@hypothesis.given(shapes_and_output_axes())
def test_to_matrix_and_back_changes_nothing(case):
    shape, axes = case
    values = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    weight = SelectedWeight(
        path="w", variable=values, layer=layers.ReLU(), output_axes=axes
    )
    matrix = weight.to_matrix(keras.ops.convert_to_tensor(values))
    assert tuple(matrix.shape) == weight.matrix_shape
    inputs = [axis for axis in range(len(shape)) if axis not in axes]
    expected = values.transpose(*inputs, *axes).reshape(weight.matrix_shape)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(matrix), expected)
    restored = keras.ops.convert_to_numpy(weight.from_matrix(matrix))
    np.testing.assert_array_equal(restored, values)


def net():
    return keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(4, name="dense_1"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="head"),
        ],
        name="net",
    )


def test_every_weight_is_either_chosen_or_skipped_with_a_reason():
    model = net()
    selection = select_weights(model, exclude="head")
    assert [weight.path for weight in selection.chosen] == ["net/dense_1/kernel"]
    chosen = {weight.path for weight in selection.chosen}
    assert chosen.isdisjoint(selection.skipped)
    assert chosen | set(selection.skipped) == {v.path for v in model.weights}
    assert all(selection.skipped.values())
    assert selection.skipped["net/head/kernel"] == "excluded"
    assert selection.skipped["net/norm/gamma"].startswith("a bias, a scale")
    assert selection.skipped["net/norm/moving_mean"].startswith("frozen")


def test_an_obstacle_is_the_reason_of_a_weight():
    selection = select_weights(
        net(), obstacle=lambda weight: "too small" if weight.size < 10 else None
    )
    assert selection.skipped["net/head/kernel"] == "too small"


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("dense_1", True),
        ("dense*", True),
        ("net/dense_1", True),
        ("net/dense_1/kernel", True),
        ("*/kernel", True),
        ("kernel", True),
        ("Dense_1", False),
        ("dense", False),
        ("dense_?", True),
        (["x", "dense_1"], True),
        ([], False),
    ],
)
def test_patterns_match_whole_names(pattern, matched):
    layer = net().layers[0]
    assert matches_layer(layer, "net/dense_1/kernel", pattern) is matched


def test_weights_are_found_by_path_in_the_order_asked():
    paths = ["net/head/kernel", "net/dense_1/kernel"]
    assert [weight.path for weight in find_weights(net(), paths)] == paths
    with pytest.raises(
        penjing.UnsupportedModelError, match="no compressible weight 'net/x'.*changed"
    ):
        find_weights(net(), ["net/x"])


def test_low_rank_adapters_leave_the_frozen_kernel_whole():
    model = net()
    model.layers[0].enable_lora(2)
    selection = select_weights(model)
    assert [weight.path for weight in selection.chosen] == ["net/head/kernel"]
    assert selection.skipped["net/dense_1/kernel"].startswith("frozen")


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize("bad", [3, [3], [None], [keras.layers.Dense]])
def test_what_is_no_pattern_or_layer_is_refused(argument, bad):
    with pytest.raises(ValueError, match=f"`{argument}` takes patterns and layers"):
        select_weights(net(), **{argument: bad})
