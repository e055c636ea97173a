"""Multiply-accumulates against numbers computed by hand, on every kind of layer."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

import penjing
from penjing.errors import UnsupportedModelError
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


# How a layer runs on placeholders depends on the backend; the formulas do not.
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


def test_embeddings_are_looked_up_and_their_parameters_counted():
    inputs = keras.Input((6,), dtype="int32")
    report = count_macs(keras.Model(inputs, layers.Embedding(50, 8)(inputs)))
    assert (report.macs, report.parameters, report.kernels) == (0, 400, {})


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


def test_kernels_have_their_own_part_and_the_sum_is_the_whole():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.SeparableConv2D(5, 3, name="s")]
    )
    report = count_macs(model)
    paths = {w.path: w for w in model.weights}
    depthwise, pointwise = (p for p in paths if "kernel" in p)
    assert report.kernels == {depthwise: 16 * 9 * 2, pointwise: 16 * 2 * 5}
    assert report.macs == sum(report.kernels.values())


def test_shared_layers_count_each_call_and_nested_models_their_layers():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="d")], name="n")
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    outputs = shared(inner(shared(inputs)))
    report = count_macs(keras.Model(inputs, outputs))
    macs = {row.path.rpartition("/")[2]: (row.macs, row.calls) for row in report.rows}
    assert macs == {"shared": (32, 2), "d": (16, 1)}
    assert report.parameters == 40 == sum(row.parameters for row in report.rows)


def test_layers_of_equal_names_in_two_blocks_are_told_apart():
    inputs = keras.Input((4,))
    outputs = inputs
    for name in ("first", "second"):
        inside = keras.Input((4,))
        block = keras.Model(inside, layers.Dense(4, name="d")(inside), name=name)
        outputs = block(outputs)
    report = count_macs(keras.Model(inputs, outputs))
    assert [row.path for row in report.rows] == ["first/d", "second/d"]
    assert report.kernels == {"first/d/kernel": 16, "second/d/kernel": 16}


class OwnStep(layers.Layer):
    """Three steps of a cell in a loop, and products with arguments by name."""

    def __init__(self):
        super().__init__()
        self.cell = layers.LSTMCell(6)

    def build(self, shape):
        self.cell.build((shape[0], shape[2]))
        self.matrix = self.add_weight(shape=(6, 3), name="matrix")

    def call(self, inputs):
        states = [ops.zeros((ops.shape(inputs)[0], 6))] * 2
        for step in range(3):
            output, states = self.cell(inputs[:, step], states)
        output = ops.tensordot(output, x2=self.matrix, axes=1)
        return ops.matmul(x2=ops.transpose(self.matrix), x1=ops.dot(output, 2.0))


def test_cells_and_arguments_by_name_in_own_code():
    inputs = keras.Input((3, 4))
    layer = OwnStep()
    report = count_macs(keras.Model(inputs, layer(inputs)))
    assert report.macs == 3 * 4 * 6 * (4 + 6) + 2 * 6 * 3
    assert report.kernels[layer.matrix.path] == 6 * 3, "a turned weight is a tensor"


class OwnProducts(keras.Model):
    """Products in the code of a model and of a layer."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(6)
        self.second = OwnLayer()

    def call(self, inputs):
        hidden = self.second(self.first(inputs))
        return ops.einsum("bi,bj->bij", hidden, hidden)


class OwnLayer(layers.Layer):
    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 3), name="matrix")
        self.table = self.add_weight(shape=(2, 3), name="table")

    def call(self, inputs):
        return ops.matmul(inputs, self.matrix) + self.table[0]


def test_subclassed_models_and_products_in_own_code():
    model = OwnProducts()
    model(np.zeros((2, 4), "float32"))
    report = count_macs(model)
    rows = {row.type: row for row in report.rows}
    assert {name: row.macs for name, row in rows.items()} == {
        "Dense": 4 * 6,
        "OwnLayer": 6 * 3,
        "einsum": 9,
    }
    assert report.kernels[model.second.matrix.path] == 18
    assert "table" in rows["OwnLayer"].note
    assert "table" in str(report)


def test_data_formats_and_fixed_batches_change_nothing():
    if keras.backend.backend() != "tensorflow":
        channels_first = layers.Conv2D(8, 3, data_format="channels_first")
        assert macs_of(channels_first, (6, 9, 9)) == 49 * 8 * 54
    inputs = keras.Input(batch_shape=(4, 9, 9, 6))
    report = count_macs(keras.Model(inputs, layers.Conv2D(8, 3)(inputs)))
    assert report.macs == sum(report.kernels.values()) == 49 * 8 * 54


def test_free_sizes_are_refused_with_the_fix_that_works():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(8, 3, padding="same")(inputs))
    with pytest.raises(UnsupportedModelError, match=r"input_shape=\(224, 224, 3\)"):
        count_macs(model)
    assert count_macs(model, input_shape=(10, 12, 3)).macs == 120 * 8 * 27
    for wrong in [7, (10, 12), (10, 12, 4), (10, 0, 3), [(9, 9, 3), (9, 9, 3)]]:
        with pytest.raises(ValueError, match="`input_shape`"):
            count_macs(model, input_shape=wrong)


def test_what_is_no_built_model_is_refused():
    with pytest.raises(UnsupportedModelError, match="not built"):
        count_macs(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(UnsupportedModelError, match="keras.Model, got str"):
        count_macs("model.keras")


def test_the_model_is_left_as_it_was():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    before = dict(model.layers[0].__dict__), ops.matmul
    count_macs(model)
    assert (model.layers[0].__dict__, ops.matmul) == before
    assert "call" not in model.layers[0].__dict__


def test_models_in_training_count_as_the_model_within():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    pruned = penjing.prune(model, penjing.OneShot(0.5))
    assert penjing.count_macs(pruned).kernels == {model.weights[0].path: 12}


def test_the_report_survives_json():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    content = json.loads(json.dumps(count_macs(model).to_dict()))
    assert content["macs"] == content["rows"][0]["macs"] == 12
    assert content["input_shapes"] == [[4]]


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "millions"),
    [("MobileNet", 569), ("MobileNetV2", 301), ("ResNet50", 3858)],
)
def test_published_counts_of_known_networks(name, millions):
    """569 and 300 million by their authors; torchvision gives 4.09 billion for its
    ResNet50, whose strides lie in the 3x3 convolutions; He et al. 3.8 billion."""
    model = getattr(keras.applications, name)(weights=None)
    report = count_macs(model)
    assert round(report.macs / 1e6) == millions
    assert sum(row.parameters for row in report.rows) == model.count_params()


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
