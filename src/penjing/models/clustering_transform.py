"""Clustering as a weight transform: codebooks that train with the model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from penjing.errors import UnsupportedModelError
from penjing.models.clustering_config import ClusteringConfig
from penjing.models.selection import (
    SelectedWeight,
    Selection,
    find_weights,
    select_weights,
)
from penjing.models.transforms import Incoming, Transform, Values, check_finite
from penjing.numerics import Tensor
from penjing.numerics.codebooks import kmeans, share_values


@keras.saving.register_keras_serializable(package="penjing")
class Cluster(Transform):
    """Shared values of a model's weights; both they and who shares them are trained.

    The centroids are trainable weights, found by k-means when the transform is
    attached. It acts at once, in inference too: no schedule, no first step.

    Args:
        config: What to cluster, and into how many values.
        **kwargs: Passed to `Transform`.
    """

    order = 1
    display_name = "clustered"

    def __init__(self, config: ClusteringConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.centroids: list[Any] = []
        self._restored = self.paths is not None

    def select(self, owner: keras.layers.Layer) -> Sequence[SelectedWeight]:
        """Weights that the config names and that have enough values."""
        if self.paths is not None:
            with contextlib.suppress(UnsupportedModelError):
                self.skipped = dict(self._selection(owner).skipped)
            return find_weights(owner, self.paths)
        selection = self._selection(owner)
        self.skipped = dict(selection.skipped)
        return selection.chosen

    def create_state(
        self, weights: Sequence[SelectedWeight], incoming: Incoming
    ) -> None:
        """Centroids of each weight, of shape `(num_clusters,)`.

        Of shape `(channels, num_clusters)` where each channel has its own.
        """
        values = incoming()
        for weight in weights:
            shape: tuple[int, ...] = (self.config.num_clusters,)
            if self._per_channel:
                shape = (weight.matrix_shape[1], *shape)
            centroids = self.add_state(
                weight.path,
                "centroids",
                trainable=True,
                shape=shape,
                dtype="float32",
                initializer="zeros",
            )
            self.centroids.append(centroids)
            if values is None and self._restored:
                continue  # they are about to be loaded
            if values is None:
                raise UnsupportedModelError(
                    f"The weight {weight.path!r} is made by the first training batch, "
                    "so it has no values to cluster. Build and train the model first."
                )
            check_finite(weight, values[weight.path])
            centroids.assign(self._find_centroids(weight, values[weight.path]))

    def apply(self, values: Values, training: bool) -> Values:
        """Weights in which every value is the nearest centroid."""
        return {
            path: self._share(weight, values[path], centroids.value)
            for (path, weight), centroids in zip(
                self.weights_by_path.items(), self.centroids, strict=True
            )
        }

    def get_config(self) -> dict[str, Any]:
        """Config and paths."""
        return {
            **super().get_config(),
            "config": keras.saving.serialize_keras_object(self.config),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Transform from the dictionary that `get_config` gave."""
        config = dict(config)
        config["config"] = keras.saving.deserialize_keras_object(config["config"])
        return cls(**config)

    @property
    def _per_channel(self) -> bool:
        return self.config.granularity == "per_channel"

    def _selection(self, owner: keras.layers.Layer) -> Selection:
        return select_weights(
            owner, self.config.include, self.config.exclude, self._obstacle
        )

    def _obstacle(self, weight: SelectedWeight) -> str | None:
        if self._per_channel:
            size, of_what = weight.matrix_shape[0], "a channel of it has"
        else:
            size, of_what = weight.size, "it has"
        if size > self.config.num_clusters:
            return None
        return f"{of_what} {size} values, for {self.config.num_clusters} clusters"

    def _find_centroids(self, weight: SelectedWeight, values: np.ndarray) -> np.ndarray:
        rows = [values.ravel()]
        if self._per_channel:
            rows = list(np.transpose(ops.convert_to_numpy(weight.to_matrix(values))))
        if self.config.preserve_sparsity:
            rows = [row[row != 0] for row in rows]
        found = [self._find_in_row(row) for row in rows]
        return np.stack(found) if self._per_channel else found[0]

    def _find_in_row(self, row: np.ndarray) -> np.ndarray:
        number = self.config.num_clusters
        if self._restored:  # what was found before is about to be loaded
            return np.linspace(row.min(initial=0.0), row.max(initial=0.0), number)
        return kmeans(
            row,
            number,
            initialization=self.config.initialization,
            seed=self.config.seed,
        )

    def _share(self, weight: SelectedWeight, values: Tensor, centroids: Tensor) -> Any:
        if self._per_channel:
            rows = ops.transpose(weight.to_matrix(values))
        else:
            rows = ops.reshape(values, (1, weight.size))
            centroids = ops.reshape(centroids, (1, -1))
        shared = share_values(
            rows,
            centroids,
            gradient=self.config.centroid_gradient,
            keep_zeros=self.config.preserve_sparsity,
        )
        shared = ops.cast(shared, values.dtype)
        if self._per_channel:
            return weight.from_matrix(ops.transpose(shared))
        return ops.reshape(shared, weight.shape)
