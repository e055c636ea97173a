"""What to cluster, and into how many values: checked, frozen, JSON both ways."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import keras

from penjing.arguments import check_choice, check_flag, check_integer
from penjing.engine.transforms.method_config import MethodConfig
from penjing.models.selection import Filter
from penjing.numerics.codebooks import Initialization

Granularity = Literal["per_tensor", "per_channel"]
CentroidGradient = Literal["mean", "sum"]


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusteringConfig(MethodConfig):
    """What to cluster, and into how many values: the settings of `penjing.cluster`.

    Args:
        num_clusters: Values that a weight may share, 1 or more. Weights that do not
            have more values than that are left whole.
        initialization: Where k-means starts: `"k-means++"`, `"linear"` (evenly between
            the extremes, which serves rare, large weights), `"density"` (where many
            weights are) or `"random"`.
        granularity: `"per_tensor"`: one codebook for a weight; `"per_channel"`: one
            for each output channel, which is more exact but compresses less.
        preserve_sparsity: Weights that are exactly zero stay so, in training too; zero
            does not count among the clusters.
        count_zero: Zero does count among them, where it is preserved: 16 clusters are
            15 and zero, which indices of 4 bits can tell apart, see
            `penjing.pack_litert`.
        centroid_gradient: The gradient of a shared value is the `"mean"` or the `"sum"`
            of those of the weights that share it. The sum, the one of the paper,
            grows with the layer: plain SGD diverges with it at learning rates that
            suit the model. Adam is indifferent to it.
        include: What to cluster: layers, or patterns matched against weight paths,
            layer paths and layer names (`"dense_1"`, `"conv*"`, `"*/kernel"`). Default:
            all that pruning takes: no biases, norms or depthwise kernels.
        exclude: What to leave whole, in the same form; wins over `include`.
        seed: Of the initializations that draw.
    """

    method = "cluster"

    num_clusters: int = dataclasses.field(kw_only=False)
    initialization: Initialization = "k-means++"
    granularity: Granularity = "per_tensor"
    preserve_sparsity: bool = True
    count_zero: bool = False
    centroid_gradient: CentroidGradient = "mean"
    include: Filter = None
    exclude: Filter = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("num_clusters", self.num_clusters, least=1)
        check_integer("seed", self.seed, least=0)
        check_flag("preserve_sparsity", self.preserve_sparsity)
        check_flag("count_zero", self.count_zero)
        if self.count_zero and not (self.preserve_sparsity and self.num_clusters > 1):
            raise ValueError(
                "`count_zero` needs preserve_sparsity=True and at least 2 clusters, "
                "of which zero is one; got "
                f"preserve_sparsity={self.preserve_sparsity} and "
                f"num_clusters={self.num_clusters}."
            )
        check_choice("initialization", self.initialization, get_args(Initialization))
        check_choice("granularity", self.granularity, get_args(Granularity))
        check_choice(
            "centroid_gradient", self.centroid_gradient, get_args(CentroidGradient)
        )

    @property
    def num_centroids(self) -> int:
        """Clusters with a trained value: all but zero, where it counts."""
        return self.num_clusters - self.count_zero
