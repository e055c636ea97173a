"""Rows times matrix is what the layer gives, for every layer that is seen so."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from penjing.models.selection import select_weights
from penjing.one_shot.input_moments import collect_moments
from penjing.one_shot.layer_rows import find_rows

IMAGE, SERIES, VOLUME = (7, 6, 4), (9, 4), (5, 4, 4, 2)


class CellHead(layers.Dense):
    """No cell, whatever its name says."""


CASES = {
    "dense of a name": (CellHead(3), (4,)),
    "dense": (layers.Dense(3), (4,)),
    "dense on tokens": (layers.Dense(3), (2, 5, 4)),
    "einsum": (
        layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
        SERIES,
    ),
    "einsum of two": (layers.EinsumDense("abcd,cde->abe", (None, 5)), (3, 2, 4)),
    "einsum with dots": (layers.EinsumDense("...x,xy->...y", 5), (3, 2, 4)),
    "conv1d causal": (layers.Conv1D(3, 2, padding="causal", dilation_rate=2), SERIES),
    "conv2d": (layers.Conv2D(3, (3, 2), strides=(2, 1)), IMAGE),
    "conv2d same": (layers.Conv2D(3, 3, strides=2, padding="same"), IMAGE),
    "conv2d dilated": (layers.Conv2D(3, 2, dilation_rate=2), IMAGE),
    "conv2d in groups": (layers.Conv2D(6, 2, groups=2), IMAGE),
    "conv3d": (layers.Conv3D(3, 2, padding="same"), VOLUME),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), IMAGE),
    "depthwise 1d": (layers.DepthwiseConv1D(3, padding="same"), SERIES),
    "separable": (layers.SeparableConv2D(3, 3, padding="same"), IMAGE),
    "transposed": (layers.Conv2DTranspose(3, 3, strides=2), IMAGE),
    "transposed same": (layers.Conv2DTranspose(3, 4, strides=2, padding="same"), IMAGE),
    "transposed odd": (
        layers.Conv2DTranspose(3, (3, 5), strides=2, padding="same", dilation_rate=1),
        IMAGE,
    ),
    "transposed far": (layers.Conv2DTranspose(3, 2, strides=3, padding="same"), IMAGE),
    "transposed 1d": (layers.Conv1DTranspose(3, 2, strides=3), SERIES),
}


def products(weight, x):
    view = find_rows(weight)
    rows = ops.convert_to_numpy(view.rows(ops.convert_to_tensor(x)))
    rows = rows.reshape(-1, *rows.shape[2:])
    matrix = weight.to_matrix(ops.convert_to_numpy(weight.variable.value))
    parts = np.split(ops.convert_to_numpy(matrix), view.groups, axis=1)
    made = [rows[:, i] @ part for i, part in enumerate(parts)]
    return np.concatenate(made, axis=1)


@pytest.mark.parametrize("name", CASES)
def test_rows_times_the_matrix_are_the_outputs(name):
    layer, shape = CASES[name]
    layer = type(layer).from_config(layer.get_config())
    model = keras.Sequential([keras.Input(shape), layer])
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    weight = select_weights(model, spare=False).chosen[-1]
    expected = ops.convert_to_numpy(model(x))
    found = products(weight, x)
    np.testing.assert_allclose(found.ravel(), expected.ravel(), rtol=1e-4, atol=1e-5)


def test_channels_first_is_turned():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow on a CPU has no convolutions with channels first")
    layer = layers.Conv2D(3, 2, data_format="channels_first")
    model = keras.Sequential([keras.Input((4, 6, 5)), layer])
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 5)).astype("float32")
    (weight,) = select_weights(model).chosen
    expected = np.moveaxis(ops.convert_to_numpy(model(x)), 1, -1)
    np.testing.assert_allclose(
        products(weight, x).ravel(), expected.ravel(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.once
def test_what_cannot_be_seen_says_why():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4)(inputs)
    y = layers.EinsumDense("abc,bcd->abd", (5, 2))(x)
    model = keras.Model(inputs, [layers.LSTM(2)(x), y])
    reasons = {w.path: find_rows(w) for w in select_weights(model).chosen}
    found = {path.split("/")[-2]: str(reason) for path, reason in reasons.items()}
    assert "looks its rows up" in found["embedding"]
    assert "loop" in found["lstm_cell"]
    assert "weights of their own" in found["einsum_dense"]


def masked_model():
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=True)(inputs)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


@pytest.mark.once
def test_padding_does_not_count_and_attention_sees_one_input():
    model = masked_model()
    x = np.array([[1, 2, 0, 0], [3, 4, 5, 0]], "int32")
    weights = [w for w in select_weights(model).chosen if "kernel" in w.path]
    views = [find_rows(weight) for weight in weights]
    found, reasons = collect_moments(model, views, [x[:1], x[1:]])
    assert not reasons and {m.count for m in found.values()} == {5}
    embedded = model.layers[1](x)
    rows = ops.convert_to_numpy(embedded)[x > 0]
    for path in found:
        if "query" in path or "key" in path or "value" in path:
            np.testing.assert_allclose(
                found[path].products[0], rows.T @ rows, rtol=1e-4, atol=1e-5
            )


@pytest.mark.once
def test_a_shared_layer_sums_up_all_of_its_calls():
    shared = layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(shared(inputs)))
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    (weight,) = select_weights(model).chosen
    found, _ = collect_moments(model, [find_rows(weight)], [x])
    between = ops.convert_to_numpy(shared(x))
    expected = x.T @ x + between.T @ between
    np.testing.assert_allclose(
        found[weight.path].products[0], expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:Layer 'conv'.*destroy the mask")
def test_of_many_places_some_are_drawn_and_padding_still_does_not_count():
    inputs = keras.Input((4000,), dtype="int32")
    x = layers.Embedding(9, 2, mask_zero=True)(inputs)
    x = layers.Conv1D(2, 3, padding="same", name="conv")(x)
    model = keras.Model(inputs, x)
    x = np.ones((12, 4000), "int32")
    x[:, 3000:] = 0
    weight = next(w for w in select_weights(model).chosen if "conv" in w.path)
    found, _ = collect_moments(model, [find_rows(weight)], [x])
    moments = found[weight.path]
    assert 8192 <= moments.count < 12 * 3000
    rows = products_of(model, weight, x[:1, :3000])
    np.testing.assert_allclose(
        moments.products[0] / moments.count, rows, rtol=0.05, atol=1e-3
    )


def products_of(model, weight, x):
    """The mean of `x^T x` over every place."""
    embedded = model.layers[1](x)
    rows = ops.convert_to_numpy(find_rows(weight).rows(embedded))
    rows = rows.reshape(-1, rows.shape[-1])
    return rows.T @ rows / len(rows)
