"""A part of arrays split off, of each class alike where there are classes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from penjing.data.datasets import stratified_split
from penjing.errors import DataError


def split_off(
    arrays: tuple[Any, ...], fraction: float, seed: int, part: str = "train"
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Split some of a part's arrays off, of each class alike if there are any.

    Args:
        arrays: `(x, y)` or `(x, y, sample_weight)`, each an array or a tree of arrays.
        fraction: What to split off, between 0 and 1; it is one example at least.
        seed: The same seed gives the same split.
        part: Which part of the data it is: `"train"` or `"test"`.

    Returns:
        The rest and what is split off, in the form and the order of `arrays`.

    Raises:
        DataError: If nothing would be left.
    """
    labels = arrays[1]
    count = len(keras.tree.flatten(labels)[0])
    name = "training" if part == "train" else part
    if count < 2:
        raise DataError(f"The {name} part has 1 example; at least 2 are needed.")
    fraction = max(fraction, 1 / count)
    try:
        kept, moved = stratified_split(_classes(labels, count), fraction, seed)
    except ValueError as error:
        raise DataError(
            f"Cannot split {fraction:.3g} of the {count} {name} examples off for "
            f"validation: {error}"
        ) from error
    return (
        keras.tree.map_structure(lambda array: array[kept], arrays),
        keras.tree.map_structure(lambda array: array[moved], arrays),
    )


def _classes(labels: Any, count: int) -> npt.NDArray[Any]:
    """The class of each example; all the same where there are no classes, or many."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iubf":
        columns = labels.reshape(count, -1)
        is_one_hot = np.isin(columns, (0, 1)).all() and (columns.sum(1) == 1).all()
        if columns.shape[1] > 1 and is_one_hot:
            columns = columns.argmax(1)[:, None]
        is_whole = columns.dtype.kind != "f" or np.array_equal(columns, columns.round())
        few = columns.shape[1] == 1 and 10 * len(np.unique(columns)) <= count
        if is_whole and few:
            return columns[:, 0]
    return np.zeros(count, np.int8)
