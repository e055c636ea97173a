"""The layer that stands for a clustered layer in a model."""

from __future__ import annotations

import abc
import enum
from collections.abc import Sequence
from typing import Any, cast

import keras

from penjing.engine.transforms.clustering_config import ClusteringConfig
from penjing.engine.transforms.clustering_transform import Cluster
from penjing.errors import UnsupportedModelError
from penjing.numerics.codebooks import Initialization
from penjing.tfmot.layer_wrapper import LayerTransform, LayerWrapper, check_known


class CentroidInitialization(enum.StrEnum):
    """Where the centroids start; k-means then runs until it has converged."""

    LINEAR = "CentroidInitialization.LINEAR"
    RANDOM = "CentroidInitialization.RANDOM"
    DENSITY_BASED = "CentroidInitialization.DENSITY_BASED"
    KMEANS_PLUS_PLUS = "CentroidInitialization.KMEANS_PLUS_PLUS"


_INITIALIZATIONS: dict[CentroidInitialization, Initialization] = {
    CentroidInitialization.LINEAR: "linear",
    CentroidInitialization.RANDOM: "random",
    CentroidInitialization.DENSITY_BASED: "density",
    CentroidInitialization.KMEANS_PLUS_PLUS: "k-means++",
}


class ClusterableLayer(abc.ABC):
    """Mark of a layer class of one's own that says which weights may be clustered.

    Example:
        >>> class Projection(keras.layers.Layer, ClusterableLayer):
        ...     def build(self, input_shape):
        ...         self.matrix = self.add_weight(shape=(input_shape[-1], 8))
        ...
        ...     def get_clusterable_weights(self):
        ...         return [("matrix", self.matrix)]
    """

    @abc.abstractmethod
    def get_clusterable_weights(self) -> list[tuple[str, Any]]:
        """Return name and variable of each weight of the built layer to cluster."""

    def get_clusterable_algorithm(self, weight_name: str) -> Any:
        """Return `None`: one lookup serves weights of all shapes."""
        return None


class LayerCluster(LayerTransform, Cluster):
    """Centroids of the clusterable weights of one layer, which may be none.

    Args:
        config: Into how many values to cluster, and how.
        positions: See `LayerTransform`.
        **kwargs: Passed to `Transform`.
    """

    hook = "get_clusterable_weights"

    def add_state(
        self, path: str, name: str, *, trainable: bool = False, **kwargs: Any
    ) -> Any:
        """A variable that is named as in tfmot."""
        variable = self.weights_by_path[path].variable
        return self.add_weight(
            name=f"cluster_{name}_{variable.name}{self.number(path)}",
            trainable=trainable,
            autocast=False,
            aggregation="mean",
            **kwargs,
        )


@keras.saving.register_keras_serializable("penjing.tfmot")
class ClusterWeights(LayerWrapper):
    """A layer whose weights share a few values, which are trained.

    For every clusterable weight it adds the values, and for itself a counter of
    training batches. `cluster_weights` makes it, `strip_clustering` takes it out.

    Args:
        layer: Layer to cluster. One without clusterable weights is run as it is.
        number_of_clusters: Distinct values of a weight; zero is among them where
            `preserve_sparsity` is set.
        cluster_centroids_init: Where the centroids start.
        preserve_sparsity: Keep weights that are zero at zero.
        cluster_per_channel: Cluster each output channel of a Conv2D kernel by itself;
            ignored for other layers.
        clustered_positions: Which weights are clustered; set by loading.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of range or the layer cannot be clustered.
    """

    prefix = "cluster"

    def __init__(
        self,
        layer: keras.layers.Layer,
        number_of_clusters: int,
        cluster_centroids_init: str = CentroidInitialization.KMEANS_PLUS_PLUS,
        preserve_sparsity: bool = False,
        cluster_per_channel: bool = False,
        clustered_positions: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        check_known(
            layer, hook=LayerCluster.hook, mark="ClusterableLayer", done="clustered"
        )
        _refuse_own_lookup(layer)
        self.number_of_clusters = number_of_clusters
        self.cluster_centroids_init = cluster_centroids_init
        self.preserve_sparsity = preserve_sparsity
        self.cluster_per_channel = cluster_per_channel
        config = make_clustering_config(
            number_of_clusters,
            cluster_centroids_init,
            preserve_sparsity,
            cluster_per_channel and isinstance(layer, keras.layers.Conv2D),
        )
        super().__init__(
            layer,
            lambda name: LayerCluster(config, clustered_positions, name=name),
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        """Layer and arguments, serialized by Keras."""
        return {
            **super().get_config(),
            "number_of_clusters": self.number_of_clusters,
            "cluster_centroids_init": str(self.cluster_centroids_init),
            "preserve_sparsity": self.preserve_sparsity,
            "cluster_per_channel": self.cluster_per_channel,
            "clustered_positions": cast(LayerCluster, self.transforms[0]).positions,
        }


def make_clustering_config(
    number_of_clusters: int,
    cluster_centroids_init: str = CentroidInitialization.KMEANS_PLUS_PLUS,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
) -> ClusteringConfig:
    """Say the arguments of `cluster_weights` in penjing's words.

    One that is out of range is a ValueError.
    """
    least = 3 if preserve_sparsity else 2
    whole = isinstance(number_of_clusters, int)
    if not whole or isinstance(number_of_clusters, bool) or number_of_clusters < least:
        raise ValueError(
            f"`number_of_clusters` must be an integer greater than {least - 1}"
            f"{', for zero is one of them' if preserve_sparsity else ''}, got "
            f"{number_of_clusters!r}."
        )
    if cluster_centroids_init not in _INITIALIZATIONS:
        raise ValueError(
            "`cluster_centroids_init` must be a CentroidInitialization, such as "
            "CentroidInitialization.KMEANS_PLUS_PLUS, got "
            f"{cluster_centroids_init!r}."
        )
    return ClusteringConfig(
        num_clusters=number_of_clusters - bool(preserve_sparsity),
        initialization=_INITIALIZATIONS[CentroidInitialization(cluster_centroids_init)],
        granularity="per_channel" if cluster_per_channel else "per_tensor",
        preserve_sparsity=bool(preserve_sparsity),
    )


def _refuse_own_lookup(layer: keras.layers.Layer) -> None:
    if not layer.built or not isinstance(layer, ClusterableLayer):
        return
    for name, _ in layer.get_clusterable_weights():
        if layer.get_clusterable_algorithm(name) is not None:
            raise UnsupportedModelError(
                f"The class {type(layer).__name__} brings a lookup of its own for "
                f"{name!r} by `get_clusterable_algorithm`, which is not supported. "
                "Take the method out: the built-in lookup serves weights of all shapes."
            )
