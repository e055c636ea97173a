"""Weights read and written as matrices on the host."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from keras import ops

from penjing.models.selection import SelectedWeight

Array: TypeAlias = np.ndarray[Any, Any]


def write_matrix(weight: SelectedWeight, matrix: Array) -> None:
    """Give a weight the values of a matrix `(inputs, outputs)`."""
    order = weight.input_axes + weight.output_axes
    values = np.asarray(matrix, "float32").reshape([weight.shape[i] for i in order])
    weight.variable.assign(np.ascontiguousarray(values.transpose(np.argsort(order))))


def read_matrix(weight: SelectedWeight) -> Array:
    """The values of a weight as a float32 matrix `(inputs, outputs)`."""
    values = ops.convert_to_numpy(ops.cast(weight.variable.value, "float32"))
    order = weight.input_axes + weight.output_axes
    return np.asarray(values).transpose(order).reshape(weight.matrix_shape)
