"""What a forward pass calls, on which shapes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from penjing.errors import UnsupportedModelError
from penjing.models.layer_calls import (
    check_is_model,
    known_signature,
    trace_calls,
)

pytestmark = pytest.mark.once


class Products(layers.Layer):
    """Products by place and by name, of a tensor and of a weight."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 3), name="table")

    def call(self, x):
        return ops.matmul(x2=self.table, x1=x)


class Paired(keras.Model):
    def __init__(self):
        super().__init__()
        self.one, self.other = layers.Dense(2), layers.Dense(2)

    def call(self, image, text, training=False):
        return self.one(ops.mean(image, axis=(1, 2))) + self.other(text)


def traced(model, shape=None, is_whole=lambda layer: False):
    signature = known_signature(model, shape)
    return trace_calls(model, signature, is_whole)


def test_layers_and_products_in_their_order():
    layer = Products(name="own")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5), layer])
    dense, product, own = traced(model)
    assert (dense.operands[0], dense.output, dense.product) == ((1, 4), (1, 5), None)
    assert (product.layer, product.product) == (layer, "matmul")
    assert product.operands == ((1, 5), (5, 3)), "in the order of the parameters"
    assert product.weights == (None, layer.table.path)
    assert own.layer is layer and own.output == (1, 3)


def test_nothing_within_a_whole_layer_is_listed():
    model = keras.Sequential([keras.Input((4,)), Products(name="own")])
    calls = traced(model, is_whole=lambda layer: isinstance(layer, Products))
    assert [call.product for call in calls] == [None]


def test_nothing_stays_replaced():
    model = keras.Sequential([keras.Input((4,)), Products()])
    before = keras.ops.matmul, model.layers[0].call
    traced(model)
    assert (keras.ops.matmul, model.layers[0].call) == before


def test_sizes_left_free_are_given_or_asked_for():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    assert traced(model, (7, 3))[-1].operands[0] == (1, 7, 3)
    with pytest.raises(UnsupportedModelError, match="sizes that are None. Say them"):
        known_signature(model)
    for shape in ((7, 4), (7,), (7, -3)):
        with pytest.raises(ValueError, match="Leave the batch axis out"):
            known_signature(model, shape)
    with pytest.raises(ValueError, match="one shape for each of the 1 inputs"):
        known_signature(model, [(7, 3), (7, 3)])


def test_a_call_of_several_arguments():
    model = Paired()
    model(np.zeros((1, 4, 4, 3)), np.zeros((1, 6)))
    calls = traced(model, [(4, 4, 3), (6,)])
    assert [call.operands[0] for call in calls] == [(1, 3), (1, 6)]
    for shape in (None, (4, 4, 3), [(4, 4, 3)]):
        message = "takes image, text, of which .* input_shape="
        with pytest.raises(UnsupportedModelError, match=message):
            known_signature(model, shape)


def test_what_depends_on_values_is_refused():
    class Chooses(layers.Layer):
        def call(self, x):
            return x if float(ops.sum(x)) > 0 else -x

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape)

    model = keras.Sequential([keras.Input((4,)), Chooses()])
    with pytest.raises(UnsupportedModelError, match="must not depend on the values"):
        traced(model)


def test_what_is_no_model_is_refused():
    with pytest.raises(UnsupportedModelError, match="got str. Load a saved"):
        check_is_model("model.keras")
