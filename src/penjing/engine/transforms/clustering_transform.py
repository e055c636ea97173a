"""Clustering as a weight transform: codebooks that train with the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.transforms.clustering_config import ClusteringConfig
from penjing.engine.transforms.state_renewal import renew
from penjing.engine.transforms.weight_transform import (
    ConfiguredTransform,
    Incoming,
    Values,
    check_values,
)
from penjing.errors import UnsupportedModelError
from penjing.models.selection import SelectedWeight
from penjing.numerics import Tensor
from penjing.numerics.codebooks import (
    cluster_statistics,
    kmeans,
    revive_centroids,
    share_values,
)

REVIVAL_FREQUENCY = 10


@keras.saving.register_keras_serializable(package="penjing")
class Cluster(ConfiguredTransform):
    """Shared values of a model's weights; both they and who shares them are trained.

    The centroids are found by k-means when the transform is attached. It acts at once,
    in inference too: no schedule, no first step. A centroid is the sum of a trainable
    weight and of one that is not: by the latter those without members are moved to
    where they are needed, as JAX lets only the optimizer change what is trainable.
    """

    order = 1
    display_name = "clustered"
    config: ClusteringConfig

    def __init__(self, config: ClusteringConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.centroids: list[Any] = []
        self.shifts: list[Any] = []

    def create_state(
        self, weights: Sequence[SelectedWeight], incoming: Incoming
    ) -> None:
        """Centroids of each weight, of shape `(num_clusters,)`.

        Of shape `(channels, num_clusters)` where each channel has its own.
        """
        values = incoming()
        for weight in weights:
            shape: tuple[int, ...] = (self.config.num_centroids,)
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
            self.shifts.append(
                self.add_state(
                    weight.path,
                    "shifts",
                    shape=shape,
                    dtype="float32",
                    initializer="zeros",
                )
            )
            if values is None and self._restored:
                continue  # they are about to be loaded
            if values is None:
                raise UnsupportedModelError(
                    f"The weight {weight.path!r} is made by the first training batch, "
                    "so it has no values to cluster. Build and train the model first."
                )
            check_values(weight, values[weight.path])
            centroids.assign(self._find_centroids(weight, values[weight.path]))

    def update(self, step: int | Tensor, values: Values) -> None:
        """Move centroids without members, at every tenth step from the first on.

        Masks that take ever more weights would else leave few centroids in use.
        """
        due = step % REVIVAL_FREQUENCY == 1
        places = [i for i, _ in self.training_weights()]
        if due is False or not places:
            return
        weights = [weight for _, weight in self.training_weights()]
        raw = [ops.stop_gradient(values[weight.path]) for weight in weights]
        trained = [ops.stop_gradient(self.centroids[i].value) for i in places]
        renew(
            [self.shifts[i] for i in places],
            due,
            lambda shifts: self._revived(weights, raw, trained, shifts),
        )

    def apply(self, values: Values, training: bool) -> Values:
        """Weights in which every value is the nearest centroid."""
        state = zip(
            self.weights_by_path.items(), self.centroids, self.shifts, strict=True
        )
        return {
            path: self._share(weight, values[path], centroids.value + shift.value)
            for (path, weight), centroids, shift in state
            if path in values
        }

    def trained_state(self) -> Iterable[tuple[str, Any]]:
        """The centroids of each weight."""
        return zip(self.weights_by_path, self.centroids, strict=False)

    def obstacle(self, weight: SelectedWeight) -> str | None:
        """Why a weight has too few values, or `None`."""
        if self._per_channel:
            size, of_what = weight.matrix_shape[0], "a channel of it has"
        else:
            size, of_what = weight.size, "it has"
        if size > self.config.num_clusters:
            return None
        return f"{of_what} {size} values, for {self.config.num_clusters} clusters"

    @property
    def _per_channel(self) -> bool:
        return self.config.granularity == "per_channel"

    def _find_centroids(self, weight: SelectedWeight, values: np.ndarray) -> np.ndarray:
        rows = [values.ravel()]
        if self._per_channel:
            rows = list(np.transpose(ops.convert_to_numpy(weight.to_matrix(values))))
        if self.config.preserve_sparsity:
            rows = [row[row != 0] for row in rows]
        found = [self._find_in_row(row) for row in rows]
        return np.stack(found) if self._per_channel else found[0]

    def _find_in_row(self, row: np.ndarray) -> np.ndarray:
        number = self.config.num_centroids
        if self._restored:  # what was found before is about to be loaded
            return np.linspace(row.min(initial=0.0), row.max(initial=0.0), number)
        return kmeans(
            row,
            number,
            initialization=self.config.initialization,
            seed=self.config.seed,
        )

    def _rows(self, weight: SelectedWeight, values: Tensor) -> Tensor:
        """Values as `(codebooks, values)`."""
        if self._per_channel:
            return ops.transpose(weight.to_matrix(values))
        return ops.reshape(values, (1, weight.size))

    def _share(self, weight: SelectedWeight, values: Tensor, centroids: Tensor) -> Any:
        shared = share_values(
            self._rows(weight, values),
            ops.reshape(centroids, (-1, self.config.num_centroids)),
            gradient=self.config.centroid_gradient,
            keep_zeros=self.config.preserve_sparsity,
        )
        shared = ops.cast(shared, values.dtype)
        if self._per_channel:
            return weight.from_matrix(ops.transpose(shared))
        return ops.reshape(shared, weight.shape)

    def _revived(
        self,
        weights: Sequence[SelectedWeight],
        raw: Sequence[Tensor],
        trained: Sequence[Tensor],
        shifts: Sequence[Tensor],
    ) -> list[Tensor]:
        """Shifts by which every centroid has members; one search for all weights."""
        shape = (-1, self.config.num_centroids)
        centroids = [
            ops.reshape(own + shift, shape)
            for own, shift in zip(trained, shifts, strict=True)
        ]
        statistics = [
            cluster_statistics(
                self._rows(weight, values),
                own,
                keep_zeros=self.config.preserve_sparsity,
            )
            for weight, values, own in zip(weights, raw, centroids, strict=True)
        ]
        together = ops.concatenate(centroids)
        joined = [ops.concatenate(each) for each in zip(*statistics, strict=True)]
        moved = revive_centroids(together, *joined) - together
        ends = np.cumsum([own.shape[0] for own in centroids])
        return [
            shift + ops.reshape(moved[int(end) - own.shape[0] : int(end)], shift.shape)
            for shift, own, end in zip(shifts, centroids, ends, strict=True)
        ]
