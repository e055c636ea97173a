"""`cluster_weights` and `strip_clustering`: into the wrappers and out of them."""

from __future__ import annotations

from typing import Any

import keras

from penjing.engine.clustering import apply_clustering
from penjing.engine.compression_model import CompressionModel
from penjing.tfmot.clustering_wrapper import (
    CentroidInitialization,
    ClusterWeights,
    make_clustering_config,
)
from penjing.tfmot.layer_wrapper import strip_wrappers, wrap


def cluster_weights(
    to_cluster: Any,
    number_of_clusters: int,
    cluster_centroids_init: str = CentroidInitialization.KMEANS_PLUS_PLUS,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
    **kwargs: Any,
) -> Any:
    """Make the weights of a model, a layer or a list of layers share a few values.

    A Sequential or Functional model is copied, with every layer inside a
    `ClusterWeights`; the given model stays as it is. A subclassed model, or one that
    holds such a model, is copied into a `penjing.CompressionModel`. Layers are wrapped
    as they are.

    Args:
        to_cluster: A Keras model, best a trained one, a layer or a list of layers.
        number_of_clusters: Distinct values of a weight; zero is among them where
            `preserve_sparsity` is set.
        cluster_centroids_init: Where the centroids start.
        preserve_sparsity: Keep weights that are zero at zero.
        cluster_per_channel: Cluster each output channel of a Conv2D kernel by itself;
            ignored for other layers.
        **kwargs: For a single layer, passed on to the wrapper.

    Returns:
        A model to compile and train, a layer, or a list of layers.

    Raises:
        ValueError: If an argument is out of range, a layer is of a class whose
            clusterable weights are not known, or nothing can be clustered.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> clustered = cluster_weights(model, number_of_clusters=3)
        >>> [layer.name[:13] for layer in clustered.layers]
        ['cluster_dense']
    """
    settings: dict[str, Any] = {
        "number_of_clusters": number_of_clusters,
        "cluster_centroids_init": cluster_centroids_init,
        "preserve_sparsity": preserve_sparsity,
        "cluster_per_channel": cluster_per_channel,
    }
    config = make_clustering_config(**settings)

    def wrap_layer(layer: Any, **further: Any) -> Any:
        if isinstance(layer, ClusterWeights):
            return layer
        return ClusterWeights(layer, **settings, **further)

    return wrap(
        to_cluster,
        wrap_layer,
        lambda model: apply_clustering(model, config),
        call="cluster_weights",
        argument="to_cluster",
        done="clustered",
        further=kwargs,
    )


def strip_clustering(model: keras.Model) -> keras.Model:
    """Copy a model without its clustering wrappers, its weights shared.

    Args:
        model: What `cluster_weights` made, or a model with such layers; at any time,
            after any batch.

    Returns:
        A plain Keras model, not compiled.

    Raises:
        ValueError: If `model` is not a Keras model.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> plain = strip_clustering(cluster_weights(model, 3))
        >>> len(set(keras.ops.convert_to_numpy(plain.weights[0]).ravel().tolist()))
        3
    """
    return strip_wrappers(model)


def cluster_scope() -> Any:
    """Make the wrapper known to Keras by its bare name.

    It is registered as soon as this module is imported, so that the scope is needed
    only for an `.h5` file of a subclassed model being clustered.

    Returns:
        A `keras.saving.CustomObjectScope`.
    """
    known = (ClusterWeights, CompressionModel)
    return keras.saving.custom_object_scope({kind.__name__: kind for kind in known})
