"""The wrapper of one layer: the peer's masks, counts and order of weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.jax_cases import few_on_jax

import penjing
from penjing.errors import CompressionError
from penjing.tfmot.pruning_schedules import (
    ConstantSparsity,
    PolynomialDecay,
    PruningSchedule,
)
from penjing.tfmot.pruning_wrapper import PrunableLayer, PruneLowMagnitude

NOW = ConstantSparsity(0.5, 1, frequency=1)


@keras.saving.register_keras_serializable("penjing.tests")
class Projection(layers.Layer):
    """A layer class that penjing does not know."""

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], 4), name="matrix")
        self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")

    def call(self, inputs):
        return ops.matmul(inputs, self.matrix) * self.scale


@keras.saving.register_keras_serializable("penjing.tests")
class PrunableProjection(Projection, PrunableLayer):
    def get_prunable_weights(self):
        return [self.matrix]


class Always(PruningSchedule):
    """A user's schedule that returns Python values."""

    def __call__(self, step):
        return True, 0.75


def array(variable):
    return np.asarray(ops.convert_to_numpy(variable))


def pruned_once(kernel, schedule=NOW, **settings):
    """Mask and threshold of a Dense layer after one training step."""
    wrapper = PruneLowMagnitude(
        layers.Dense(kernel.shape[1], use_bias=False), schedule, **settings
    )
    wrapper.build((None, kernel.shape[0]))
    wrapper.set_weights([kernel])
    wrapper(np.zeros((1, kernel.shape[0]), "float32"), training=True)
    ((_, mask, threshold),) = wrapper.pruning_vars
    rows = ["".join(map(str, row)) for row in array(mask).astype(int)]
    return rows, float(array(threshold))


def shuffled_kernel():
    numbers = np.arange(48)
    values = (numbers * 29 % 48 + 1) * np.where(numbers % 3, 1, -1)
    return values.reshape(8, 6).astype("float32")


# Made with tensorflow-model-optimization 0.8.1 on the same kernel.
PEER_MASKS = {
    "half": (
        {"schedule": NOW},
        "010100 101001 010010 100101 101011 010110 101101 011010",
        25.0,
    ),
    "most": (
        {"schedule": ConstantSparsity(0.8, 1, frequency=1)},
        "000100 001000 010000 100001 000010 000100 001000 010010",
        39.0,
    ),
    "one is always left": (
        {"schedule": ConstantSparsity(0.99, 1, frequency=1)},
        "000000 000000 000000 000000 000000 000000 000000 010000",
        48.0,
    ),
    "highest of blocks": (
        {"block_size": (2, 2), "block_pooling_type": "MAX"},
        "000000 000000 110011 110011 001111 001111 111100 111100",
        43.0,
    ),
    "mean of columns": (
        {"block_size": (4, 1)},
        "010100 010100 010100 010100 011110 011110 011110 011110",
        25.0,
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("name", PEER_MASKS)
def test_masks_and_thresholds_are_the_peers(name):
    settings, rows, threshold = PEER_MASKS[name]
    assert pruned_once(shuffled_kernel(), **settings) == (rows.split(), threshold)


@pytest.mark.once
@pytest.mark.parametrize(
    ("m_by_n", "rows"),
    [
        ((2, 4), "010110 101001 011010 100101 101011 010100 101101 010010"),
        ((3, 4), "000100 001000 010010 100001 000010 000100 101001 010000"),
    ],
)
def test_m_zeros_of_n_are_the_peers(m_by_n, rows):
    schedule = ConstantSparsity(m_by_n[0] / m_by_n[1], 1, frequency=1)
    mask, _ = pruned_once(shuffled_kernel(), schedule, sparsity_m_by_n=m_by_n)
    assert mask == rows.split()


@pytest.mark.once
def test_a_constant_kernel_is_pruned_to_the_number():
    mask, threshold = pruned_once(np.ones((4, 4), "float32"))
    assert mask == ["1111", "1111", "0000", "0000"]
    assert threshold == 1.0


def test_a_schedule_of_ones_own_is_followed():
    mask, threshold = pruned_once(shuffled_kernel(), Always())
    assert "".join(mask).count("0") == 36
    assert threshold == 37.0


# Made with tensorflow-model-optimization 0.8.1, where it takes the layer; the number
# is that of all weights with masks, thresholds and step.
PEER_COUNTS = {
    "dense": (lambda: layers.Dense(5), (5,), 57),
    "embedding": (lambda: layers.Embedding(10, 4), (4,), 82),
    "lstm": (lambda: layers.LSTM(3), (4, 5), 207),
    "gru": (lambda: layers.GRU(3), (4, 5), 165),
    "stacked": (lambda: _stack(), (4, 5), 281),
    "separable": (lambda: layers.SeparableConv2D(4, 3), (8, 8, 3), 57),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), (8, 8, 3), 31),
    "transposed": (lambda: layers.Conv3DTranspose(2, 3), (5, 5, 5, 2), 220),
    "batch norm": (lambda: layers.BatchNormalization(), (8,), 33),
    "layer norm": (lambda: layers.LayerNormalization(), (4,), 9),
    "no weights": (lambda: layers.ReLU(), (4,), 1),
}


def _stack():
    return layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)])


@pytest.mark.once
@pytest.mark.parametrize("name", PEER_COUNTS)
def test_parameters_are_as_many_as_the_peers(name):
    make, shape, count = PEER_COUNTS[name]
    layer = make()
    wrapper = PruneLowMagnitude(layer)
    wrapper(keras.Input(shape))
    assert wrapper.count_params() == count
    assert wrapper.name == f"prune_low_magnitude_{layer.name}"


@pytest.mark.once
def test_layers_that_the_peer_refuses_are_pruned():
    sequence = keras.Input((4, 5))
    for layer, pruned in [
        (layers.Bidirectional(layers.LSTM(3)), 4),
        (layers.TimeDistributed(layers.Dense(3)), 1),
        (layers.EinsumDense("abc,cd->abd", (None, 3)), 1),
        (layers.Conv1DTranspose(2, 3), 1),
    ]:
        wrapper = PruneLowMagnitude(layer)
        wrapper(sequence)
        assert len(wrapper.pruning_vars) == pruned
    attention = PruneLowMagnitude(layers.MultiHeadAttention(2, 4))
    attention(sequence, sequence)
    assert len(attention.pruning_vars) == 4


def test_weights_stand_in_the_peers_order():
    wrapper = PruneLowMagnitude(layers.Dense(3, name="head"), NOW)
    wrapper(keras.Input((2,)))
    assert [weight.path for weight in wrapper.weights] == [
        "head/kernel",
        "head/bias",
        "prune_low_magnitude_head/mask",
        "prune_low_magnitude_head/threshold",
        "prune_low_magnitude_head/step",
    ]
    assert [weight.shape for weight in wrapper.get_weights()] == [(2, 3), (3,)]
    assert wrapper.pruning_step is wrapper.weights[-1]


def test_a_frozen_layer_is_left_whole():
    wrapper = PruneLowMagnitude(layers.Dense(3, trainable=False), NOW)
    x = np.ones((1, 2), "float32")
    before = array(wrapper(x))
    np.testing.assert_array_equal(array(wrapper(x, training=True)), before)
    assert wrapper.pruning_vars == []
    reasons = wrapper.skipped_weights()
    assert "frozen" in reasons["dense/kernel"]


@pytest.mark.once
def test_a_weight_that_cannot_take_the_pattern_is_listed():
    wrapper = PruneLowMagnitude(layers.Conv2D(4, 3), sparsity_m_by_n=(2, 4))
    wrapper(keras.Input((8, 8, 2)))
    reason = wrapper.skipped_weights()["conv2d/kernel"]
    assert reason == (
        "its 2 input channels are no more than the 2 that stay of every 4"
    )


@pytest.mark.parametrize("channels", few_on_jax([3, 4, 6, 7], 6))
def test_the_rest_of_an_axis_is_filled_up_with_zeros(channels):
    wrapper = PruneLowMagnitude(layers.Conv2D(2, 2), sparsity_m_by_n=(2, 4))
    wrapper.build((None, 4, 4, channels))
    kernel = np.abs(array(wrapper.layer.kernel))
    padded = np.pad(kernel, ((0, 0),) * 2 + ((0, -channels % 4), (0, 0)))
    runs = np.moveaxis(padded, 2, -1).reshape(2, 2, 2, -1, 4)
    kept = np.argsort(np.argsort(-runs, axis=-1, kind="stable"), axis=-1) < 2
    kept = np.moveaxis(kept.reshape(2, 2, 2, -1)[..., :channels], -1, 2)
    wrapper(np.zeros((1, 4, 4, channels), "float32"), training=True)
    ((_, mask, _),) = wrapper.pruning_vars
    np.testing.assert_array_equal(array(mask), kept)


@pytest.mark.parametrize(
    "schedule",
    [
        ConstantSparsity(0.8, 0, frequency=1),
        penjing.ConstantSparsity(0.8),
        penjing.OneShot(0.1, step=1),
    ],
)
def test_a_constant_sparsity_beside_m_by_n_is_theirs(schedule):
    wrapper = PruneLowMagnitude(
        layers.Dense(3), pruning_schedule=schedule, sparsity_m_by_n=(3, 4)
    )
    wrapper(np.ones((1, 8), "float32"), training=True)
    ((_, mask, _),) = wrapper.pruning_vars
    assert array(mask).mean() == 0.25
    config = keras.saving.serialize_keras_object(wrapper)
    again = keras.saving.deserialize_keras_object(config)
    assert again.sparsity_m_by_n == (3, 4)


def test_a_layer_of_ones_own_says_what_is_prunable():
    wrapper = PruneLowMagnitude(PrunableProjection(), NOW)
    x = np.ones((2, 6), "float32")
    wrapper(x, training=True)
    ((weight, mask, _),) = wrapper.pruning_vars
    assert weight is wrapper.layer.matrix
    assert np.count_nonzero(array(mask)) == 12
    config = keras.saving.serialize_keras_object(wrapper)
    again = keras.saving.deserialize_keras_object(config)
    assert [tuple(v.shape) for _, v, _ in again.pruning_vars] == [(6, 4)]


@pytest.mark.once
def test_blocks_take_convolutions():
    wrapper = PruneLowMagnitude(layers.Conv2D(4, 3), NOW, block_size=(1, 4))
    wrapper.build((None, 8, 8, 2))
    wrapper(np.zeros((1, 8, 8, 2), "float32"), training=True)
    ((_, mask, _),) = wrapper.pruning_vars
    kept = array(mask).reshape(18, 4).sum(axis=1)
    assert sorted(kept) == [0] * 9 + [4] * 9


@pytest.mark.once
def test_nan_weights_are_refused():
    layer = layers.Dense(2, name="broken")
    layer.build((None, 2))
    layer.set_weights([np.full((2, 2), np.nan), np.zeros(2)])
    with pytest.raises(CompressionError, match=r"'broken/kernel'.*4 NaN"):
        PruneLowMagnitude(layer)


REFUSED = {
    "no layer": (lambda: PruneLowMagnitude("dense"), "Keras 3 layers.*builtins.str"),
    "model": (
        lambda: PruneLowMagnitude(keras.Sequential([layers.Dense(2)])),
        "is a model",
    ),
    "unknown class": (
        lambda: PruneLowMagnitude(Projection()),
        "'projection' of class Projection.*get_prunable_weights",
    ),
    "pooling": (lambda: _wrapped(block_pooling_type="avg"), "'AVG' or 'MAX'.*'avg'"),
    "schedule": (lambda: _wrapped(pruning_schedule=0.5), "`pruning_schedule`.*0.5"),
    "block of one": (lambda: _wrapped(block_size=(2,)), "`block_size`.*two positive"),
    "block of 0": (lambda: _wrapped(block_size=(0, 2)), r"`block_size`.*\(0, 2\)"),
    "block": (lambda: _wrapped(block_size=2), "`block_size`.*got 2"),
    "three": (lambda: _wrapped(sparsity_m_by_n=(2, 4, 1)), "`sparsity_m_by_n`"),
    "floats": (lambda: _wrapped(sparsity_m_by_n=(2.0, 4)), "`sparsity_m_by_n`"),
    "all zeros": (lambda: _wrapped(sparsity_m_by_n=(4, 4)), r"smaller, got \(4, 4\)"),
    "both": (
        lambda: _wrapped(sparsity_m_by_n=(2, 4), block_size=(2, 2)),
        "exclude each other",
    ),
    "schedule against m by n": (
        lambda: _wrapped(
            sparsity_m_by_n=(2, 4), pruning_schedule=PolynomialDecay(0.1, 0.8, 0, 9)
        ),
        "final sparsity is 0.8",
    ),
    "unknown argument": (lambda: _wrapped(sparsity=0.5), "sparsity"),
}


def _wrapped(**settings):
    return PruneLowMagnitude(layers.Dense(2), **settings)


@pytest.mark.once
@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.once
def test_a_registered_layer_class_is_pruned():
    class Registered(Projection):
        pass

    specs = [penjing.WeightSpec(attribute="matrix")]
    penjing.register_layer_spec(Registered, specs)
    wrapper = PruneLowMagnitude(Registered())
    wrapper.build((None, 3))
    assert wrapper.pruning_vars[0][0] is wrapper.layer.matrix
