"""Keras' cosine similarity along an axis that is kept where it is made anew."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("penjing")
class OutputCosine(keras.metrics.CosineSimilarity):
    """Mean cosine of two tensors along an axis.

    Keras' own leaves the axis out of its config (3.15), and is one of the last axis
    after that. Of an axis of a single value the cosine is a sign.

    Args:
        axis: The axis of the vectors.
        name: Name of the metric.
        dtype: Type of its sums.
    """

    def __init__(
        self, axis: int, name: str = "cosine_similarity", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype, axis=axis)
        self.axis = axis

    def get_config(self) -> dict[str, Any]:
        """What makes it anew."""
        return {**super().get_config(), "axis": self.axis}

    def of_keras(self) -> keras.metrics.CosineSimilarity:
        """The same as a class of Keras, for files that load without penjing."""
        return keras.metrics.CosineSimilarity(name=self.name, axis=self.axis)
