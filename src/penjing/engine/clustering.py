"""Clustering: weights that share a few values, trained with the model."""

from __future__ import annotations

import dataclasses

import keras

from penjing.engine.compression_model import CompressionModel
from penjing.engine.transforms.clustering_config import ClusteringConfig
from penjing.engine.transforms.clustering_transform import Cluster
from penjing.engine.transforms.method_config import OfModel, takes_settings
from penjing.engine.transforms.quantization_transform import FakeQuantize
from penjing.engine.wrapping import add_transform
from penjing.errors import UnsupportedModelError
from penjing.models.selection import select_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterArguments(ClusteringConfig, OfModel):
    """The signature of `cluster`."""

    copy: bool = True


@takes_settings(ClusteringConfig, ClusterArguments)
def cluster(
    model: keras.Model, config: ClusteringConfig, *, copy: bool = True
) -> CompressionModel:
    """Let the weights of each layer share a few values, and train those.

    It acts at once, so the outputs change at once; training then brings the accuracy
    back: the gradients of all weights that share a value move it, and each weight may
    change over to another value. Train with a small learning rate, a tenth of that
    of the model. `penjing.strip` gives the plain model with its shared values.

    Fewer distinct values compress better: `gzip` of a `.keras`, `.h5` or `.tflite`
    file is smaller, the raw file is not. The quantized modes of `penjing.export_litert`
    give each output channel a scale of its own, after its largest weight: zeros stay
    zeros and a channel has at most `num_clusters` other integers, but a channel
    that lacks the largest value has other integers than the rest.

    To prune as well, best prune and train first, then cluster: the clusters are found
    among the weights that are left. Both at once works too: while the mask takes small
    weights, their centroids are moved among the others.

    Args:
        model: A built Keras model, best a trained one, or one that carries transforms
            already: masked weights of `penjing.prune` stay zero.
        config: What to cluster, and into how many values: each field of
            `ClusteringConfig` is an argument, `num_clusters` the second.
        copy: Leave the given model alone. `False` trains its own weights and saves
            the memory of a copy.

    Returns:
        A model to compile and train.

    Raises:
        UnsupportedModelError: If nothing can be clustered, a named layer cannot, or the
            model is not built, is being clustered already or cannot be copied.
        CompressionError: If a weight is NaN or infinite.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, numpy as np, penjing
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> clustered = penjing.cluster(model, 3)
        >>> clustered.compile("adam", "mse")
        >>> x, y = np.ones((64, 8), "float32"), np.ones((64, 4), "float32")
        >>> _ = clustered.fit(x, y, epochs=1, verbose=0)
        >>> kernel = penjing.strip(clustered).get_weights()[0]
        >>> len(np.unique(kernel))
        3

    Reference:
        Han et al., 2015, https://arxiv.org/abs/1510.00149
    """
    return apply_clustering(model, config, copy=copy)


def apply_clustering(
    model: keras.Model,
    config: ClusteringConfig,
    *,
    training_steps: int | None = None,
    copy: bool = True,
) -> CompressionModel:
    """`cluster` with its settings in a config, as recipes hold them.

    It acts from the first batch, however many `training_steps` there will be.
    """
    if isinstance(model, keras.Sequential) and not model.built:
        raise UnsupportedModelError(
            f"The model {model.name!r} is not built, so it has no values to cluster. "
            "Give it an input shape, train it, then cluster it."
        )
    _check_grids(model, config)
    return add_transform(model, Cluster(config), copy=copy)


def _check_grids(model: keras.Model, config: ClusteringConfig) -> None:
    """Refuse scales of channels behind values that all channels are to share."""
    if not isinstance(model, CompressionModel) or config.granularity != "per_tensor":
        return
    split = {
        path
        for transform in model.transforms
        if isinstance(transform, FakeQuantize)
        for path, grid in zip(transform.weights_by_path, transform.grids, strict=True)
        if grid.granularity == "per_channel"
    }
    chosen = select_weights(model.model, config.include, config.exclude).chosen
    if split.intersection(weight.path for weight in chosen):
        raise UnsupportedModelError(
            f"The weights of {model.name!r} are rounded with a scale for each channel, "
            "which would split the values that all channels are to share. Cluster the "
            "model first, or quantize it with one scale for each weight: "
            'weights=penjing.Grid(granularity="per_tensor").'
        )
