"""Multiply-accumulates against numbers computed by hand, on every kind of layer."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

from penjing.measurement.mac_formulas import einsum_macs
from penjing.measurement.macs import count_macs
from penjing.models import layer_calls


def macs_of(layer, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return count_macs(keras.Model(inputs, layer(*inputs))).macs


CASES = {
    "dense": (layers.Dense(7), [(5,)], 5 * 7),
    "dense on a sequence": (layers.Dense(7), [(3, 5)], 3 * 5 * 7),
    "einsum_dense": (
        layers.EinsumDense("...d,dhk->...hk", output_shape=(2, 6)),
        [(3, 5)],
        3 * 5 * 2 * 6,
    ),
    "conv1d causal": (
        layers.Conv1D(4, 3, padding="causal"),
        [(10, 2)],
        10 * 4 * 3 * 2,
    ),
    "conv2d valid": (layers.Conv2D(12, 3), [(28, 28, 1)], 26 * 26 * 12 * 9),
    "conv2d strided same": (
        layers.Conv2D(8, (3, 5), strides=2, padding="same"),
        [(9, 8, 6)],
        5 * 4 * 8 * 15 * 6,
    ),
    "conv2d grouped": (
        layers.Conv2D(8, 3, groups=2, padding="same"),
        [(4, 4, 6)],
        16 * 8 * 9 * 3,
    ),
    "conv3d dilated": (
        layers.Conv3D(2, 2, dilation_rate=2),
        [(5, 5, 5, 3)],
        27 * 2 * 8 * 3,
    ),
    "conv1d transpose": (
        layers.Conv1DTranspose(4, 3, strides=2),
        [(5, 2)],
        5 * 4 * 3 * 2,
    ),
    "conv2d transpose": (
        layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
        [(5, 6, 2)],
        30 * 4 * 9 * 2,
    ),
    "conv3d transpose": (
        layers.Conv3DTranspose(2, 2),
        [(3, 3, 3, 1)],
        27 * 2 * 8,
    ),
    "depthwise": (
        layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
        [(4, 4, 6)],
        16 * 6 * 2 * 9,
    ),
    "depthwise 1d": (layers.DepthwiseConv1D(3), [(10, 6)], 8 * 6 * 3),
    "separable": (
        layers.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2),
        [(8, 8, 3)],
        16 * (9 * 3 * 2 + 6 * 5),
    ),
    "separable 1d": (layers.SeparableConv1D(5, 3), [(10, 4)], 8 * (3 * 4 + 4 * 5)),
    "simple rnn": (layers.SimpleRNN(6), [(7, 4)], 7 * (4 * 6 + 6 * 6)),
    "lstm": (layers.LSTM(6), [(7, 4)], 7 * 4 * (4 * 6 + 6 * 6)),
    "gru": (layers.GRU(6, return_sequences=True), [(7, 4)], 7 * 3 * (4 + 6) * 6),
    "bidirectional": (
        layers.Bidirectional(layers.LSTM(6)),
        [(7, 4)],
        2 * 7 * 4 * (4 + 6) * 6,
    ),
    "stacked cells": (
        layers.RNN([layers.GRUCell(6), layers.SimpleRNNCell(3)]),
        [(7, 4)],
        7 * (3 * 6 * (4 + 6) + 3 * (6 + 3)),
    ),
    "conv lstm": (
        layers.ConvLSTM2D(2, 3, padding="same"),
        [(5, 4, 4, 3)],
        5 * 16 * 9 * 4 * 2 * (3 + 2),
    ),
    "conv lstm with sequences": (
        layers.ConvLSTM1D(2, 3, padding="same", return_sequences=True),
        [(5, 4, 3)],
        5 * 4 * 3 * 4 * 2 * (3 + 2),
    ),
    "time distributed": (
        layers.TimeDistributed(layers.Conv2D(4, 3)),
        [(5, 6, 6, 2)],
        5 * 16 * 4 * 9 * 2,
    ),
    "attention": (
        lambda q, v: layers.Attention()([q, v]),
        [(5, 8), (7, 8)],
        5 * 7 * (8 + 8),
    ),
    "additive attention": (
        lambda q, v: layers.AdditiveAttention()([q, v]),
        [(5, 8), (7, 8)],
        5 * 7 * (8 + 8),
    ),
    "multi head attention": (
        layers.MultiHeadAttention(3, 4),
        [(5, 8), (7, 8)],
        2 * (5 + 7) * 8 * 12 + 5 * 7 * 3 * (4 + 4),
    ),
    "attention over rows": (
        layers.MultiHeadAttention(2, 4, attention_axes=(2,)),
        [(3, 5, 8), (3, 5, 8)],
        4 * 15 * 8 * 8 + 15 * 5 * 2 * 8,
    ),
    "grouped query attention": (
        layers.GroupQueryAttention(4, 6, 2),
        [(5, 8), (7, 8)],
        2 * 5 * 8 * 24 + 2 * 7 * 8 * 8 + 5 * 7 * 6 * (4 + 4),
    ),
    "arguments by name": (
        lambda a: layers.EinsumDense("abc,cd->abd", (3, 7))(inputs=a),
        [(3, 5)],
        3 * 5 * 7,
    ),
    "spectrogram": (
        layers.STFTSpectrogram("magnitude", 16, 8, 16),
        [(64, 2)],
        2 * 2 * 7 * 16 * 9,
    ),
    "parts of a spectrogram": (
        layers.STFTSpectrogram("stft", 16, 8, 16, expand_dims=True),
        [(64, 2)],
        2 * 2 * 7 * 16 * 9,
    ),
    "dot": (lambda a, b: layers.Dot((2, 1))([a, b]), [(3, 4), (4, 5)], 3 * 4 * 5),
    "matmul in the graph": (ops.matmul, [(3, 4), (4, 5)], 3 * 4 * 5),
    "einsum in the graph": (
        lambda a, b: ops.einsum("bqd,bkd->bqk", a, b),
        [(3, 4), (5, 4)],
        3 * 4 * 5,
    ),
    "einsum of one tensor": (lambda a: ops.einsum("bqd->bdq", a), [(3, 4)], 0),
}


EVERYWHERE = ("separable", "stacked cells", "time distributed", "einsum in the graph")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in EVERYWHERE else pytest.mark.once)
        for name in CASES
    ],
)
def test_layers_take_what_is_computed_by_hand(name):
    layer, shapes, expected = CASES[name]
    assert macs_of(layer, *shapes) == expected


@pytest.mark.once  # JAX refuses values of another size than the keys
def test_values_of_attention_may_have_another_size_than_keys():
    layer = layers.MultiHeadAttention(3, 4, value_dim=2)
    projections = 5 * 8 * 12 + 7 * 8 * 12 + 7 * 8 * 6 + 5 * 6 * 8
    assert macs_of(layer, (5, 8), (7, 8)) == projections + 5 * 7 * 3 * (4 + 2)


@pytest.mark.once
@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.Activation("gelu"),
        layers.MaxPooling2D(),
        layers.GlobalAveragePooling2D(),
        layers.UpSampling2D(interpolation="bilinear"),
        layers.Flatten(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_multiplies_no_matrix_is_listed_with_zero(layer):
    inputs = keras.Input((4, 4, 3))
    report = count_macs(keras.Model(inputs, layer(inputs)))
    row = report.rows[-1]
    assert (row.type, row.macs, report.macs) == (type(layer).__name__, 0, 0)
    assert row.parameters == layer.count_params()


@pytest.mark.once
@pytest.mark.skipif(
    not hasattr(layers, "ReversibleEmbedding"), reason="came with Keras 3.13"
)
@pytest.mark.parametrize("tied", [True, False])
def test_the_way_back_through_an_embedding_is_a_dense_layer(tied):
    table = layers.ReversibleEmbedding(50, 8, tie_weights=tied)
    inputs = keras.Input((6,), dtype="int32")
    report = count_macs(keras.Model(inputs, table(table(inputs), reverse=True)))
    assert report.macs == sum(report.kernels.values()) == 6 * 8 * 50


@pytest.mark.once
@given(st.permutations("abcd"), st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_einsum_counts_the_products_that_a_loop_makes(letters, sizes):
    a, b, c, d = letters
    size = dict(zip(letters, sizes, strict=True))
    shapes = [(size[a], size[b], size[c]), (size[c], size[b], size[d])]
    products = sum(1 for _ in np.ndindex(size[a], size[b], size[c], size[d]))
    assert einsum_macs(f"{a}{b}{c},{c}{b}{d}->{a}{b}{d}", shapes) == products
    assert einsum_macs("...c,cd->...d", ((2, 3, 4), (4, 5))) == 2 * 3 * 4 * 5


@pytest.mark.once
def test_every_product_of_the_list_exists():
    assert all(callable(getattr(ops, name)) for name in layer_calls.PRODUCTS)
