"""Channels that layers make, and those that they read, against numbers by hand."""

import keras
import pytest
from keras import layers
from tests.channels.traced import groups_of, reasons, units

pytestmark = pytest.mark.once


def after(layer, shape=(8, 8, 3)):
    """Conv "made" with 6 filters, the layer, and a head that reads it."""
    inputs = keras.Input(shape)
    x = layer(layers.Conv2D(6, 1, name="made")(inputs))
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))


def test_a_kernel_reads_on_one_axis_and_makes_on_the_other():
    inputs = keras.Input((3,))
    x = layers.Dense(4, name="first")(inputs)
    found = groups_of(keras.Model(inputs, layers.Dense(2, name="last")(x)))
    roles = {(m.path, m.axis): m.role for m in found["first"].members}
    assert roles == {
        ("first/kernel", 1): "output",
        ("first/bias", 0): "output",
        ("last/kernel", 0): "input",
    }
    assert units(found["first"], "last/kernel", 0) == [0, 1, 2, 3]


def test_of_grouped_convolutions_whole_groups_fall():
    found = groups_of(after(layers.Conv2D(4, 1, groups=2, name="grouped")))
    group = found["made"]
    assert (group.size, group.layers) == (2, ("made", "grouped"))
    assert units(group, "made/kernel", 3) == [0, 0, 0, 1, 1, 1]
    assert units(group, "grouped/kernel", 3) == [0, 0, 1, 1]


def test_kernels_of_transposed_convolutions_have_the_outputs_first():
    found = groups_of(after(layers.Conv2DTranspose(4, 2, name="up")))
    assert units(found["made"], "up/kernel", 3) == list(range(6))
    assert units(found["up"], "up/kernel", 2) == list(range(4))


def test_a_depthwise_channel_has_all_that_it_is_multiplied_to():
    found = groups_of(after(layers.DepthwiseConv2D(1, depth_multiplier=2, name="d")))
    assert list(found) == ["made", "head"]
    assert units(found["made"], "d/kernel", 2) == list(range(6))
    assert units(found["made"], "d/bias", 0) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_separable_convolution_reads_twice():
    layer = layers.SeparableConv2D(4, 1, depth_multiplier=2, name="s")
    found = groups_of(after(layer))
    assert units(found["made"], "s/depthwise_kernel", 2) == list(range(6))
    assert units(found["made"], "s/pointwise_kernel", 2)[:4] == [0, 0, 1, 1]
    assert units(found["s"], "s/pointwise_kernel", 3) == list(range(4))


def test_an_embedding_makes_channels_of_integers():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, name="words")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    group = groups_of(model)["words"]
    assert (group.size, group.reason) == (4, None)
    assert units(group, "words/embeddings", 1) == [0, 1, 2, 3]


def test_einsum_makes_the_axis_that_only_its_kernel_has():
    inputs = keras.Input((5, 4))
    x = layers.EinsumDense("...c,cd->...d", 6, bias_axes="d", name="e")(inputs)
    x = layers.EinsumDense("abc,cd->abd", (5, 3), name="f")(x)
    found = groups_of(keras.Model(inputs, layers.Flatten()(x)))
    assert units(found["e"], "e/bias", 0) == list(range(6))
    assert units(found["e"], "f/kernel", 0) == list(range(6))


def test_channels_may_come_first():
    layer = layers.Conv2D(4, 1, data_format="channels_first", name="first")
    why = reasons(after(layer, shape=(8, 8, 3)))
    assert "works along another axis than its channels'" in why["made"]


@pytest.mark.parametrize("activation", ["softmax", "log_softmax"])
def test_channels_stay_that_the_activation_mixes(activation):
    why = reasons(after(layers.Conv2D(4, 1, activation=activation, name="mixed")))
    assert why["mixed"] == f"the activation {activation!r} mixes its channels"
    assert why["made"] is None
