"""Transforms that keep what a stripped model has: its zeros, its shared values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.transforms.weight_transform import Incoming, Transform, Values
from penjing.models.selection import SelectedWeight
from penjing.numerics import Tensor
from penjing.numerics.codebooks import share_values
from penjing.numerics.masks import apply_mask

# More distinct values than this share of all are no shared values: in a large weight
# that was never clustered some values meet by chance.
_SHARED = 0.75
# Channels with values of their own: as many in all, but for zero, as in each together.
_OWN = 0.9


@keras.saving.register_keras_serializable("penjing.tfmot")
class KeepZeros(Transform):
    """Weights whose zeros stay zeros: the masks are those of the values at the start.

    Args:
        **kwargs: Passed to `Transform`, with `paths`.
    """

    order = 0
    display_name = "kept sparse"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.masks: list[Any] = []

    def create_state(
        self, weights: Sequence[SelectedWeight], incoming: Incoming
    ) -> None:
        """A mask for each weight."""
        values = incoming() or {}
        for weight in weights:
            mask = self.add_mask(weight)
            if weight.path in values:
                mask.assign(values[weight.path] != 0)
            self.masks.append(mask)

    def apply(self, values: Values, training: bool) -> Values:
        """Weights with the zeros of the start."""
        return {
            path: apply_mask(values[path], ops.convert_to_tensor(mask.value))
            for path, mask in zip(self.weights_by_path, self.masks, strict=True)
            if path in values
        }


@keras.saving.register_keras_serializable("penjing.tfmot")
class KeepClusters(Transform):
    """Weights that go on sharing as many values as they do at the start, or fewer.

    The values and who shares them are trained, as by `penjing.cluster`.

    Args:
        preserve_sparsity: Exact zeros stay exactly zero; else zero is a value like
            the others.
        codebooks: Path -> number of codebooks and of their values, where they were
            found before; `None` finds them.
        **kwargs: Passed to `Transform`, with `paths`.
    """

    order = 1
    display_name = "kept clustered"

    def __init__(
        self,
        *,
        preserve_sparsity: bool,
        codebooks: Mapping[str, Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preserve_sparsity = preserve_sparsity
        self.codebooks = dict(codebooks or {})
        self.centroids: list[Any] = []

    def create_state(
        self, weights: Sequence[SelectedWeight], incoming: Incoming
    ) -> None:
        """The distinct values of each weight, of shape `(codebooks, values)`."""
        values = incoming() or {}
        for weight in weights:
            found = None
            if weight.path not in self.codebooks:
                found = find_codebooks(
                    weight, values[weight.path], keep_zeros=self.preserve_sparsity
                )
                if found is None:
                    found = np.zeros((1, 1), "float32")
                self.codebooks[weight.path] = found.shape
            centroids = self.add_state(
                weight.path,
                "centroids",
                trainable=True,
                shape=tuple(self.codebooks[weight.path]),
                dtype="float32",
                initializer="zeros",
            )
            if found is not None:
                centroids.assign(found)
            self.centroids.append(centroids)

    def apply(self, values: Values, training: bool) -> Values:
        """Weights in which every value is the nearest of those shared."""
        state = zip(self.weights_by_path.items(), self.centroids, strict=True)
        return {
            path: self._share(weight, values[path], centroids.value)
            for (path, weight), centroids in state
            if path in values
        }

    def trained_state(self) -> Iterable[tuple[str, Any]]:
        """The values that each weight shares."""
        return zip(self.weights_by_path, self.centroids, strict=False)

    def get_config(self) -> dict[str, Any]:
        """Arguments, with the sizes of the codebooks."""
        return {
            **super().get_config(),
            "preserve_sparsity": self.preserve_sparsity,
            "codebooks": {path: list(size) for path, size in self.codebooks.items()},
        }

    def _share(self, weight: SelectedWeight, values: Tensor, centroids: Tensor) -> Any:
        whole = centroids.shape[0] == 1
        rows = ops.reshape(values, (1, weight.size))
        if not whole:
            rows = ops.transpose(weight.to_matrix(values))
        shared = share_values(rows, centroids, keep_zeros=self.preserve_sparsity)
        shared = ops.cast(shared, values.dtype)
        if whole:
            return ops.reshape(shared, weight.shape)
        return weight.from_matrix(ops.transpose(shared))


def find_codebooks(
    weight: SelectedWeight, values: np.ndarray, *, keep_zeros: bool
) -> np.ndarray | None:
    """The values that a weight shares, as a whole or channel by channel.

    A float32 array of shape `(1, values)` or `(channels, values)`, the last value
    repeated where a channel has fewer; `None` where the weight shares none. With
    `keep_zeros` zero is no value like the others.
    """
    matrix = values.transpose(weight.input_axes + weight.output_axes)
    rows = [
        row[row != 0] if keep_zeros else row
        for row in matrix.reshape(weight.matrix_shape).T
    ]
    count = sum(row.size for row in rows)
    whole = np.unique(np.concatenate(rows))
    distinct = [np.unique(row) for row in rows]
    if _share_none(whole, rows, distinct):
        return _stacked(distinct)
    return whole[np.newaxis] if 0 < whole.size <= _SHARED * count else None


def _share_none(
    whole: np.ndarray, rows: Sequence[np.ndarray], distinct: Sequence[np.ndarray]
) -> bool:
    """Whether values repeat within every channel, but hardly between channels."""
    repeats = [d.size < row.size for d, row in zip(distinct, rows, strict=True)]
    several = [r for r, row in zip(repeats, rows, strict=True) if row.size > 1]
    total = sum(d.size for d in distinct)
    return len(several) > 1 and all(several) and whole.size >= _OWN * total


def _stacked(distinct: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of one length, the last value repeated where there are fewer."""
    longest = max(d.size for d in distinct)
    padded = [d if d.size else np.zeros(1, "float32") for d in distinct]
    return np.stack([np.pad(d, (0, longest - d.size), mode="edge") for d in padded])
