"""Which layers of a model are counted, how often, under which names."""

import json
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops

import penjing
from penjing.errors import UnsupportedModelError
from penjing.measurement.macs import count_macs

# How a layer runs on placeholders depends on the backend; the formulas do not.


def test_embeddings_are_looked_up_and_their_parameters_counted():
    inputs = keras.Input((6,), dtype="int32")
    report = count_macs(keras.Model(inputs, layers.Embedding(50, 8)(inputs)))
    assert (report.macs, report.parameters, report.kernels) == (0, 400, {})


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


class Block(layers.Layer):
    """Layers within a layer, one of them without weights."""

    def __init__(self, inner=None, **options):
        super().__init__(**options)
        self.inner = inner or layers.Dense(4, name="d")
        self.drop = layers.Dropout(0.1, name="drop")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.drop(self.inner(inputs))


@pytest.mark.once
def test_layers_within_layers_have_the_names_of_all_of_them():
    inputs = keras.Input((4,))
    outer = Block(Block(name="inner"), name="outer")
    rows = count_macs(keras.Model(inputs, Block(name="first")(outer(inputs)))).rows
    assert sorted(row.path for row in rows) == [
        "first/d",
        "first/drop",
        "outer/drop",
        "outer/inner/d",
        "outer/inner/drop",
    ]


@pytest.mark.once
def test_a_call_of_two_arguments_is_counted_for_the_shapes_of_both():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = layers.Dense(2), layers.Dense(3)

        def call(self, first, second):
            return self.one(first), self.other(second)

    model = Pair()
    model(np.zeros((1, 4)), np.zeros((1, 5)))
    assert count_macs(model, input_shape=[(4,), (5,)]).macs == 4 * 2 + 5 * 3


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
        inputs = keras.Input((6, 9, 9))
        model = keras.Model(inputs, channels_first(inputs))
        assert count_macs(model).macs == 49 * 8 * 54
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


class OwnProduct(keras.Model):
    """Its code calls a layer and a product of `keras.ops`."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4, name="dense")

    def call(self, inputs):
        return ops.matmul(self.dense(inputs), ops.ones((4, 3)))


def test_counts_in_many_threads_are_those_of_one():
    model = OwnProduct()
    model(np.ones((1, 8), "float32"))
    alone = count_macs(model)
    assert alone.macs == 32 + 12
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: count_macs(model), range(12)))
    assert {report.macs for report in found} == {alone.macs}
    assert "call" not in vars(model.dense)
