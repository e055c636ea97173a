"""What tfmot offers for clustering the weights of Keras models, by the same names."""

from penjing.tfmot.cluster_weights import (
    cluster_scope,
    cluster_weights,
    strip_clustering,
)
from penjing.tfmot.clustering.keras import experimental
from penjing.tfmot.clustering_wrapper import CentroidInitialization, ClusterableLayer

__all__ = [
    "CentroidInitialization",
    "ClusterableLayer",
    "cluster_scope",
    "cluster_weights",
    "experimental",
    "strip_clustering",
]
