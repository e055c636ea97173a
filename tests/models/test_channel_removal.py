"""Smaller models compute what the silenced ones do, and stay plain models."""

from __future__ import annotations

import keras
import numpy as np
from tests.models.channel_cases import cut

from penjing.models.channel_graph import trace_channels
from penjing.models.channel_removal import remove_channels, silence_channels

layers = keras.layers


def residual() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = x + layers.Conv2D(8, 3, padding="same", name="branch")(x)
    y = layers.Conv2D(4, 1, name="side")(x)
    x = layers.MaxPooling2D()(layers.Concatenate()([x, y]))
    x = layers.Dense(10, "relu", name="hidden")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


def test_a_smaller_model_computes_what_the_silenced_one_does():
    small, _ = cut(residual())
    assert small.get_layer("stem").filters == small.get_layer("branch").filters < 8


def test_one_channel_is_removed_by_hand():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3), layers.Dense(1)])
    first = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    weights = [first, np.array([0.1, 0.2, 0.3]), np.array([[1.0], [10.0], [100.0]])]
    model.set_weights([*weights, np.array([0.5])])
    graph = trace_channels(model)
    kept = {graph.groups[0].name: np.array([True, False, True])}
    small = remove_channels(model, graph, kept)
    for found, wanted in zip(
        small.get_weights(),
        [first[:, [0, 2]], [0.1, 0.3], [[1.0], [100.0]], [0.5]],
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted)
    silenced = silence_channels(model, graph, kept)
    np.testing.assert_allclose(silenced.get_weights()[2], [[1.0], [0.0], [100.0]])
    np.testing.assert_array_equal(silenced.get_weights()[0], model.get_weights()[0])
