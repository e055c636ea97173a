"""The peer's names for clustering: into the wrappers, through training, and out."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array
from tests.tfmot.clustered_models import (
    Init,
    clustering,
    convolutional,
    data,
    distinct,
    train,
)

import penjing
from penjing import tfmot


class Plain(layers.Layer):
    """A class that nothing is known of."""

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], 6), name="matrix")


@pytest.fixture(scope="module")
def trained():
    """Clustered into eight values, and trained."""
    model = convolutional()
    clustered = clustering.cluster_weights(
        model, number_of_clusters=8, cluster_centroids_init=Init.LINEAR
    )
    return model, train(clustered)


def test_every_layer_is_wrapped_and_named_as_by_the_peer(trained):
    model, clustered = trained
    names = ["conv", "norm", "depthwise", "flat", "head"]
    assert [layer.name for layer in clustered.layers] == [f"cluster_{n}" for n in names]
    state = [v.name for v in clustered.layers[0].weights]
    centroids = ["cluster_centroids_kernel", "cluster_shifts_kernel"]
    assert state == ["kernel", "bias", *centroids, "step"]
    assert distinct(model, "conv") == 108  # it is left alone


def test_strip_gives_the_plain_layers_with_shared_values(trained):
    model, clustered = trained
    plain = clustering.strip_clustering(clustered)
    assert [layer.name for layer in plain.layers] == [m.name for m in model.layers]
    assert [type(layer) for layer in plain.layers] == [type(m) for m in model.layers]
    assert (distinct(plain, "conv"), distinct(plain, "head")) == (8, 8)
    assert distinct(plain, "depthwise") == 54
    x, _ = data()
    np.testing.assert_allclose(to_array(plain(x)), to_array(clustered(x)), atol=1e-5)


def test_a_saved_model_goes_on(trained, tmp_path):
    _, clustered = trained
    clustered.save(tmp_path / "clustered.keras")
    with clustering.cluster_scope():
        loaded = keras.models.load_model(tmp_path / "clustered.keras")
    for mine, yours in zip(loaded.variables, clustered.variables, strict=True):
        np.testing.assert_array_equal(to_array(mine), to_array(yours))
    assert distinct(clustering.strip_clustering(train(loaded, 1)), "head") <= 8


@pytest.mark.once
@pytest.mark.parametrize("init", list(Init))
def test_layers_and_lists_are_wrapped_as_they_are(init):
    dense = layers.Dense(3, name="d")
    wrapped = clustering.cluster_weights(dense, 4, init, name="mine")
    assert wrapped.layer is dense
    assert wrapped.name == "mine"
    listed = clustering.cluster_weights(
        [layers.InputLayer((6,)), wrapped, layers.ReLU(name="r")], 4
    )
    assert listed[1] is wrapped
    model = keras.Sequential(listed)
    plain = clustering.strip_clustering(model)
    assert np.unique(to_array(plain.layers[0].kernel)).size == 4


@pytest.mark.once
def test_recurrent_and_attention_layers():
    inputs = keras.Input((4, 6))
    x = layers.MultiHeadAttention(2, 3, name="mha")(inputs, inputs)
    x = layers.Bidirectional(layers.LSTM(3), name="both")(x)
    model = keras.Model(inputs, x)
    plain = clustering.strip_clustering(clustering.cluster_weights(model, 3))
    for variable in plain.trainable_variables:
        if "kernel" in variable.path:
            assert np.unique(to_array(variable)).size == 3


@pytest.mark.once
def test_subclassed_models_are_clustered_too(tmp_path):
    class Subclassed(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.head = layers.Dense(4, name="head")

        def build(self, input_shape):
            self.head.build(input_shape)

        def call(self, inputs):
            return self.head(inputs)

    model = Subclassed()
    model.build((None, 5))
    clustered = clustering.cluster_weights(model, 3)
    assert isinstance(clustered, penjing.CompressionModel)
    keras.saving.save_model(clustered, tmp_path / "clustered.h5")
    with clustering.cluster_scope():
        loaded = keras.models.load_model(
            tmp_path / "clustered.h5",
            custom_objects={"Subclassed": Subclassed},
            compile=False,
        )
    np.testing.assert_array_equal(
        to_array(loaded.transforms[0].weights[0]),
        to_array(clustered.transforms[0].weights[0]),
    )
    plain = clustering.strip_clustering(clustered)
    assert np.unique(to_array(plain.head.kernel)).size == 3


@pytest.mark.once
def test_pruned_by_the_peers_names_then_clustered_with_zeros_kept():
    """The pipeline of the peer's guide on sparsity-preserving clustering."""
    sparsity = tfmot.sparsity.keras
    pruned = sparsity.prune_low_magnitude(
        convolutional(), sparsity.ConstantSparsity(0.5, 0, frequency=1)
    )
    stripped = sparsity.strip_pruning(train(pruned))
    zeros = to_array(stripped.get_layer("conv").kernel) == 0
    assert zeros.mean() == 0.5
    clustered = clustering.cluster_weights(stripped, 6, preserve_sparsity=True)
    final = clustering.strip_clustering(train(clustered))
    kernel = to_array(final.get_layer("conv").kernel)
    np.testing.assert_array_equal(kernel == 0, zeros)
    assert np.unique(kernel).size <= 6


@pytest.mark.once
@pytest.mark.parametrize(
    ("target", "error", "says"),
    [
        ("model.keras", ValueError, "`to_cluster` must be a Keras 3 model, a layer"),
        (
            Plain(name="p"),
            ValueError,
            "'p' of class Plain can be clustered is not known",
        ),
        (
            tfmot.sparsity.keras.prune_low_magnitude(layers.Dense(2, name="d")),
            ValueError,
            "'prune_low_magnitude_d' is being pruned, .* cannot be clustered. Strip",
        ),
        (
            keras.Sequential([keras.Input((3,)), layers.ReLU()], name="bare"),
            ValueError,
            "'bare' has no weight that can be clustered. No layer of it",
        ),
    ],
)
def test_what_cannot_be_clustered_is_refused(target, error, says):
    with pytest.raises(error, match=says):
        clustering.cluster_weights(target, 4)
