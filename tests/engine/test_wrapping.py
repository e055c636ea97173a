"""Whose weights are trained, and what is not wrapped again."""

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.pruning_cases import X, Y, every_value, three_layers, weights

import penjing
from penjing import OneShot


def test_training_a_copy_leaves_the_given_model_alone():
    model = three_layers()
    before = every_value(model)
    pruned = penjing.prune(model, OneShot(0.5))
    pruned.compile("adam", "mse")
    pruned.fit(X, Y, epochs=2, verbose=0)
    assert not model.compiled
    for now, then in zip(every_value(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_without_a_copy_the_given_model_is_trained_and_given_back():
    model = three_layers()
    before = weights(model)
    pruned = penjing.prune(model, OneShot(0.5), copy=False)
    assert pruned.model is model
    pruned.compile("sgd", "mse")
    pruned.fit(X, Y, verbose=0)
    assert np.count_nonzero(weights(model)["first"]) == 80
    assert (weights(model)["head"] != before["head"]).any()
    stripped = penjing.strip(pruned, copy=False)
    assert stripped is model
    assert np.count_nonzero(weights(stripped)["second"]) == 120


def test_a_model_in_pruning_is_not_pruned_again():
    pruned = penjing.prune(three_layers(), OneShot(0.5))
    with pytest.raises(penjing.UnsupportedModelError, match="being pruned already"):
        penjing.prune(pruned, OneShot(0.5))
    wrapped = penjing.prune_layer(layers.Dense(2), OneShot(0.5))
    model = keras.Sequential([layers.Input((8,)), wrapped])
    with pytest.raises(penjing.UnsupportedModelError, match="holds compressed layers"):
        penjing.prune(model, OneShot(0.5))
