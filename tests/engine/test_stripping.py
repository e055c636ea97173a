"""The way back to a plain model."""

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.pruning_cases import X, Y, advanced, array, every_value, three_layers

import penjing
from penjing import OneShot


def test_strip_is_exact_in_the_middle_of_an_epoch():
    pruned = penjing.prune(three_layers(), OneShot(0.75, step=2))
    pruned.compile("adam", "mse")
    for step in range(1, 4):
        pruned.train_on_batch(X, Y)
        stripped = penjing.strip(pruned)
        zeros = [row.zeros for row in penjing.sparsity_report(stripped).rows]
        assert zeros[::2] == ([0, 0, 0] if step < 2 else [120, 180, 18])
        np.testing.assert_array_equal(array(stripped(X)), array(pruned(X)))


def test_strip_leaves_the_model_in_training_as_it_was():
    pruned = advanced(penjing.prune(three_layers(), OneShot(0.75)))
    before = every_value(pruned)
    stripped = penjing.strip(pruned)
    stripped.layers[0].kernel.assign(np.zeros((8, 20)))
    for now, then in zip(every_value(pruned), before, strict=True):
        np.testing.assert_array_equal(now, then)


class Block(layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = penjing.prune_layer(layers.Dense(4, name="inner"), OneShot(0.5))

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)


@pytest.mark.parametrize("copy", [True, False])
def test_layers_of_ones_own_that_hold_compressed_ones_are_named(copy):
    model = keras.Sequential([keras.Input((8,)), Block()])
    model(X, training=True)
    with pytest.raises(penjing.UnsupportedModelError, match="'compressed_inner'"):
        penjing.strip(model, copy=copy)


def test_an_untrained_model_is_stripped_with_a_warning():
    model = three_layers()
    pruned = penjing.prune(model, OneShot(0.5))
    with pytest.warns(
        penjing.CompressionWarning,
        match="was not trained since.*`train_step`.*with `training=True`",
    ):
        stripped = penjing.strip(pruned)
    np.testing.assert_array_equal(array(stripped(X)), array(model(X)))


def test_what_is_not_compressed_cannot_be_stripped():
    pruned = advanced(penjing.prune(three_layers(), OneShot(0.5)))
    for model in (three_layers(), penjing.strip(pruned), "net", None):
        with pytest.raises(penjing.UnsupportedModelError, match="nothing to strip"):
            penjing.strip(model)


def test_diverged_weights_are_not_stripped():
    pruned = advanced(penjing.prune(three_layers(), OneShot(0.5)))
    pruned.model.layers[0].kernel.assign(np.full((8, 20), np.nan))
    with pytest.raises(penjing.CompressionError, match="training diverged"):
        penjing.strip(pruned)


def test_an_unbuilt_model_has_nothing_to_strip_or_report():
    pruned = penjing.prune(keras.Sequential([layers.Dense(2)]), OneShot(0.5))
    with pytest.raises(penjing.UnsupportedModelError, match="not built yet"):
        penjing.strip(pruned)
    with pytest.raises(ValueError, match="must be a built Keras model"):
        penjing.sparsity_report(pruned)


@pytest.mark.parametrize("copy", [True, False])
def test_a_compressed_model_inside_another_is_stripped_with_it(copy):
    backbone = penjing.prune(three_layers(), OneShot(0.5))
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(1)(backbone(inputs)))
    model.compile("sgd", "mse")
    model.train_on_batch(X, np.zeros((len(X), 1), "f4"))
    expected = array(model(X))
    with pytest.raises(penjing.UnsupportedModelError, match="(?i)strip"):
        penjing.prune(model, OneShot(0.5))
    with pytest.raises(penjing.UnsupportedModelError, match="(?i)strip"):
        penjing.reestimate_batch_normalization(model, X)
    stripped = penjing.strip(model, copy=copy)
    assert not penjing.is_compressed(stripped)
    np.testing.assert_allclose(array(stripped(X)), expected, atol=1e-6)
    assert penjing.sparsity_report(stripped).sparsity > 0.4


class Holder(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = penjing.prune(three_layers(), OneShot(0.5))

    def call(self, inputs):
        return self.inner(inputs)


def test_a_compressed_model_in_code_of_ones_own_runs_by_itself():
    model = Holder()
    model(X)
    assert not penjing.is_compressed(model)
