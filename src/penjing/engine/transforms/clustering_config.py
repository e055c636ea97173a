"""What to cluster, and into how many values: checked, frozen, JSON both ways."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import keras

from penjing.arguments import check_choice, check_flag, check_integer
from penjing.models.selection import Filter, filter_names
from penjing.numerics.codebooks import INITIALIZATIONS

GRANULARITIES = ("per_tensor", "per_channel")
CENTROID_GRADIENTS = ("mean", "sum")


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusteringConfig:
    """What to cluster, and into how many values.

    Args:
        num_clusters: Values that a weight (or a channel of it) may share, 1 or more;
            zero comes in addition where zeros are kept.
        initialization: Where k-means starts: `"k-means++"`, `"linear"`, `"density"` or
            `"random"`.
        granularity: `"per_tensor"`: one codebook for a weight; `"per_channel"`: one
            for each output channel.
        preserve_sparsity: Exact zeros stay exactly zero, in training too.
        centroid_gradient: The gradient of a shared value is the `"mean"` or the `"sum"`
            of those of the weights that share it.
        include: Weights to cluster; see `penjing.cluster`.
        exclude: Weights to leave whole; see `penjing.cluster`.
        seed: Of the initializations that draw.
    """

    num_clusters: int
    initialization: str = "k-means++"
    granularity: str = "per_tensor"
    preserve_sparsity: bool = True
    centroid_gradient: str = "mean"
    include: Filter = None
    exclude: Filter = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("num_clusters", self.num_clusters, least=1)
        check_integer("seed", self.seed, least=0)
        check_flag("preserve_sparsity", self.preserve_sparsity)
        check_choice("initialization", self.initialization, tuple(INITIALIZATIONS))
        check_choice("granularity", self.granularity, GRANULARITIES)
        check_choice("centroid_gradient", self.centroid_gradient, CENTROID_GRADIENTS)

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields; layers in `include` and `exclude` become their names."""
        config = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        for name in ("include", "exclude"):
            config[name] = filter_names(config[name])
        for name in ("num_clusters", "seed"):
            config[name] = int(config[name])
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Config from the dictionary that `get_config` gave."""
        return cls(**config)
