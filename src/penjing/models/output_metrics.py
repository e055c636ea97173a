"""Metrics of Keras for outputs on which its own go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


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


@keras.saving.register_keras_serializable("penjing")
class CentredR2(keras.metrics.R2Score):
    """Coefficient of determination of outputs that lie far from zero.

    Keras' own sums up squares in float32, in which the spread of numbers that are much
    larger is lost.

    Args:
        centre: What is subtracted first, one number for each column.
        name: Name of the metric.
        dtype: Type of its sums.
    """

    def __init__(
        self, centre: Sequence[float], name: str = "r2_score", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.centre = [float(value) for value in centre]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch."""
        centre = ops.cast(self.centre, self.dtype)
        true, given = (ops.cast(y, self.dtype) - centre for y in (y_true, y_pred))
        super().update_state(true, given, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """What makes it anew."""
        given = ("name", "dtype")
        config = super().get_config()
        return {**{key: config[key] for key in given}, "centre": self.centre}

    def of_keras(self) -> keras.metrics.R2Score:
        """The same as a class of Keras, for files that load without penjing."""
        return keras.metrics.R2Score(name=self.name)
