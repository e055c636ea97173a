"""Refusals of clustering."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from tests.integration.refusal import Refusal, Unbuilt, poisoned, pruned, small

import penjing
from penjing import ClusteringConfig, UnsupportedModelError, cluster

layers = keras.layers


def of_config(name: str, says: str, **arguments: Any) -> Refusal:
    arguments = {"num_clusters": 4, **arguments}
    return Refusal(
        name=f"ClusteringConfig: {name}",
        call=lambda bench: partial(ClusteringConfig, **arguments),
        error=ValueError,
        says=says,
        once=True,
    )


def of_cluster(
    name: str,
    says: str,
    error: type[Exception] = UnsupportedModelError,
    make: Any = small,
    num_clusters: Any = 4,
    **arguments: Any,
) -> Refusal:
    return Refusal(
        name=f"cluster: {name}",
        call=lambda bench: partial(cluster, make(), num_clusters, **arguments),
        error=error,
        says=says,
    )


def clustered() -> keras.Model:
    return cluster(small(), 4)


REFUSALS = [
    of_config(
        "no clusters",
        "`num_clusters` must be an integer of at least 1, got 0",
        num_clusters=0,
    ),
    of_config("half a cluster", "`num_clusters` .. got 2.5", num_clusters=2.5),
    of_config("a flag as a number", "`num_clusters` .. got True", num_clusters=True),
    of_config(
        "initialization",
        "`initialization` must be one of 'k-means\\+\\+', 'linear', 'density', "
        "'random', got initialization='kmeans\\+\\+'. Did you mean 'k-means\\+\\+'",
        initialization="kmeans++",
    ),
    of_config(
        "granularity",
        "`granularity` must be one of 'per_tensor', 'per_channel', got "
        "granularity='per_layer'",
        granularity="per_layer",
    ),
    of_config(
        "centroid_gradient",
        "`centroid_gradient` must be one of 'mean', 'sum', got centroid_gradient='avg'",
        centroid_gradient="avg",
    ),
    of_config("seed", "`seed` must be an integer of at least 0, got -1", seed=-1),
    of_config(
        "preserve_sparsity",
        "`preserve_sparsity` must be True or False, got 'yes'",
        preserve_sparsity="yes",
    ),
    of_cluster("text", "got 'many'", ValueError, num_clusters="many"),
    of_cluster(
        "no model", "`model` must be a Keras 3 model .. builtins.str", ValueError, str
    ),
    of_cluster(
        "unbuilt subclass", "'mine' is not built", make=partial(Unbuilt, name="mine")
    ),
    of_cluster(
        "unbuilt Sequential",
        "'young' is not built, so it has no values to cluster. Give it an input shape",
        make=lambda: keras.Sequential([layers.Dense(2)], name="young"),
    ),
    of_cluster(
        "NaN weight",
        "'small/hidden/kernel' holds 1 NaN or infinite values",
        penjing.CompressionError,
        partial(poisoned, float("nan")),
    ),
    of_cluster(
        "twice",
        "'compressed_small' is being clustered already. Strip it first",
        make=clustered,
    ),
    of_cluster(
        "more clusters than values",
        "'small' has no weight to compress. .*it has 48 values, for 48 clusters",
        num_clusters=48,
    ),
    of_cluster(
        "a named weight with too few values",
        "`include` names 'head', of which nothing can be compressed. .* it has 18 "
        "values, for 20 clusters",
        num_clusters=20,
        include=["head"],
    ),
    of_cluster(
        "a misspelt name", "`include` names 'haed' .. mean 'head'", include="haed"
    ),
    of_cluster(
        "a norm",
        "`include` names 'norm' .. a bias",
        make=pruned,
        include="norm",
    ),
]
