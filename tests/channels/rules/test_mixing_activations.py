"""Activations that mix channels are told from those that handle each by itself."""

import keras
import pytest
from keras import ops

from penjing.channels.rules.mixing_activations import is_elementwise


@pytest.mark.parametrize(
    "activation",
    [
        keras.activations.relu,
        keras.activations.gelu,
        keras.activations.tanh,
        lambda x: x * ops.sigmoid(x),
        keras.layers.LeakyReLU(),
    ],
)
def test_each_value_by_itself(activation):
    assert is_elementwise(activation)


@pytest.mark.parametrize(
    "activation",
    [
        keras.activations.softmax,
        keras.activations.log_softmax,
        lambda x: x - ops.mean(x, axis=-1, keepdims=True),
        lambda x: ops.sum(x, axis=-1),
        lambda x: ops.relu(x) if x.shape[-1] == 6 else ops.tanh(x),
    ],
)
def test_over_channels(activation):
    assert not is_elementwise(activation)


def test_a_function_that_raises_is_not_trusted():
    def refuse(x):
        raise RuntimeError("only symbolic tensors")

    assert not is_elementwise(refuse)


@pytest.mark.once
def test_a_function_with_the_name_of_one_of_keras_is_tried_itself():
    def relu(x):
        return ops.softmax(x)

    assert not is_elementwise(relu)
