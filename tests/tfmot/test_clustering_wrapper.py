"""The wrapper of one layer: what is clustered in it, and into what."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.engine.training_cases import to_array
from tests.tfmot.clustered_models import (
    Init,
    clustering,
    convolutional,
    distinct,
    train,
)

import penjing


@keras.saving.register_keras_serializable("penjing.tests")
class ClusterableProjection(layers.Layer, clustering.ClusterableLayer):
    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], 6), name="matrix")
        self.other = self.add_weight(shape=(input_shape[-1], 6), name="other")

    def call(self, inputs):
        return ops.matmul(inputs, self.matrix) + ops.matmul(inputs, self.other)

    def get_clusterable_weights(self):
        return [("matrix", self.matrix)]


class OwnLookup(ClusterableProjection):
    def get_clusterable_algorithm(self, weight_name):
        return object


@pytest.mark.costly_on_jax
def test_zero_is_one_of_the_clusters_where_it_is_kept():
    model = convolutional()
    kernel = to_array(model.get_layer("head").kernel).copy()
    kernel[::2] = 0
    model.get_layer("head").kernel.assign(kernel)
    clustered = clustering.experimental.cluster_weights(
        model, 5, Init.KMEANS_PLUS_PLUS, preserve_sparsity=True
    )
    plain = clustering.strip_clustering(train(clustered))
    after = to_array(plain.get_layer("head").kernel)
    np.testing.assert_array_equal(after == 0, kernel == 0)
    assert np.unique(after).size <= 5


@pytest.mark.once
def test_channels_are_clustered_by_themselves_in_convolutions_only():
    clustered = clustering.cluster_weights(
        convolutional(), 4, Init.DENSITY_BASED, cluster_per_channel=True
    )
    plain = clustering.strip_clustering(clustered)
    kernel = to_array(plain.get_layer("conv").kernel).reshape(-1, 6)
    assert [np.unique(column).size for column in kernel.T] == [4] * 6
    assert distinct(plain, "head") == 4


@pytest.mark.once
def test_a_class_of_ones_own_says_what_is_clustered():
    model = keras.Sequential([keras.Input((5,)), ClusterableProjection(name="own")])
    plain = clustering.strip_clustering(clustering.cluster_weights(model, 3))
    assert np.unique(to_array(plain.layers[0].matrix)).size == 3
    assert np.unique(to_array(plain.layers[0].other)).size == 30


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((1,), ValueError, "an integer greater than 1, got 1"),
        ((2.0,), ValueError, "an integer greater than 1, got 2.0"),
        ((2, Init.LINEAR, True), ValueError, "greater than 2, for zero is one"),
        (
            (4, "linear"),
            ValueError,
            "must be a CentroidInitialization, .* got 'linear'",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, error, says):
    for target in (convolutional(), layers.Dense(2), [layers.Dense(2)]):
        with pytest.raises(error, match=says):
            clustering.cluster_weights(target, *arguments)


@pytest.mark.once
def test_other_misuse_is_refused():
    with pytest.raises(TypeError, match=r"unknown arguments \['nam'\]"):
        clustering.cluster_weights(convolutional(), 4, nam="x")
    layer = OwnLookup(name="own")
    layer.build((None, 4))
    with pytest.raises(penjing.UnsupportedModelError, match="a lookup of its own"):
        clustering.cluster_weights(layer, 4)
    with pytest.raises(ValueError, match="`model` must be a Keras 3 model"):
        clustering.strip_clustering("model.keras")
