"""The table names layers that Keras has, and takes those of users."""

import keras
import pytest
from keras import layers
from tests.channels.traced import reasons

import penjing
from penjing.channels.rules import rule_table
from penjing.channels.rules.rule_table import find_channel_rule

pytestmark = pytest.mark.once

# Of keras.applications, of older versions of Keras, and of newer ones.
NOT_IN_LAYERS = {
    "CustomScaleLayer",
    "GroupedQueryAttention",
    "LayerScale",
    "StochasticDepth",
}


def test_every_layer_of_the_table_is_one_of_keras():
    named = set(rule_table._LAYERS) - NOT_IN_LAYERS
    adaptive = {name for name in named if name.startswith("Adaptive")}  # since 3.13
    assert not {name for name in named - adaptive if not hasattr(layers, name)}


def test_layers_and_operations_of_one_name_are_told_apart():
    operation = (keras.Input((2,)) + 1.0)._keras_history.operation
    assert find_channel_rule(operation).__name__ == "trace_elementwise"
    assert find_channel_rule(layers.Add()).__name__ == "trace_merge"


def test_nothing_is_known_of_a_subclass_that_was_not_registered():
    class Mine(layers.Dense):
        pass

    assert find_channel_rule(Mine(2)) is None
    assert find_channel_rule(layers.Lambda(lambda x: x)) is None


def test_layers_of_ones_own_join_the_table():
    class Doubled(layers.Layer):
        def call(self, x):
            return 2 * x

    class Same(layers.Dense):
        pass

    def model():
        inputs = keras.Input((3,))
        x = Doubled()(Same(6, name="own")(layers.Dense(5, name="plain")(inputs)))
        return keras.Model(inputs, layers.Dense(2)(x))

    assert "penjing.register_channel_rule adds it" in str(reasons(model())["plain"])
    penjing.register_channel_rule(Doubled, layers.ReLU)
    penjing.register_channel_rule(Same, layers.Dense)
    found = reasons(model())
    assert list(found)[:2] == ["plain", "own"]
    assert found["plain"] is found["own"] is None


@pytest.mark.parametrize(
    ("layer_class", "rule", "message"),
    [
        (keras.Variable, layers.ReLU, "must be a subclass of keras.layers.Layer"),
        (layers.ReLU(), layers.ReLU, "must be a subclass of keras.layers.Layer"),
        (layers.Layer, layers.Lambda, "whose channels can be followed"),
        (layers.Layer, int, "whose channels can be followed"),
        (layers.Layer, 3, "takes a ChannelStep"),
    ],
)
def test_what_is_no_rule_is_refused(layer_class, rule, message):
    with pytest.raises(ValueError, match=message):
        penjing.register_channel_rule(layer_class, rule)
