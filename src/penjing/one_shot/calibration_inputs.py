"""The inputs that weights are compressed by: read once, gone through several times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from penjing.data.batches import input_batches
from penjing.engine.batch_statistics import run_on_data
from penjing.errors import DataError

BATCH = 32
_LARGE_BATCH = 128  # where a sample is small
_SMALL = 4096
MAX_SAMPLES = 4096
_NAME = "calibration_data"


def calibration_batches(
    model: keras.Model, data: Any, samples: int = MAX_SAMPLES
) -> list[Any]:
    """Batches of a model's inputs, NumPy arrays nested as its call takes them.

    `data` is an array; a list or dict of arrays, one for each input; `(x, y)`, of which
    `y` is left out; a loader that gives `x`, `(x, y)` or `(x, y, sample_weight)`; or a
    function without arguments that gives one of these. Of arrays samples are spread
    evenly, of a loader the first are taken. A DataError says that there are none, or
    that they are not finite.
    """
    if callable(data) and not hasattr(data, "shape") and not _is_loader(data):
        data = data()
    if data is None:
        raise DataError(
            f"`{_NAME}` is missing. Give inputs of the model: about a hundred are "
            "enough, labels are not needed."
        )
    data = _inputs_alone(model, data)
    batches, count = [], 0
    data = _spread(data, samples)
    for batch in input_batches(data, _batch_size(data), _NAME):
        arrays = keras.tree.map_structure(_checked, batch)
        leaves = keras.tree.flatten(arrays)
        if not leaves or not len(leaves[0]):
            continue
        room = samples - count
        batches.append(keras.tree.map_structure(lambda a: a[:room], arrays))  # noqa: B023
        count += min(len(leaves[0]), room)
        if count >= samples:
            break
    if not batches:
        raise DataError(f"`{_NAME}` is empty. Give about a hundred inputs.")
    run_on_data(model, keras.tree.map_structure(lambda a: a[:1], batches[0]), _NAME)
    return batches


def _is_loader(data: Any) -> bool:
    return hasattr(data, "__iter__") or hasattr(data, "__getitem__")


def _inputs_alone(model: keras.Model, data: Any) -> Any:
    """Leave the labels out of `(x, y)`; a list of such pairs is one of batches."""
    if isinstance(data, list) and data and all(isinstance(b, tuple) for b in data):
        return iter(data)
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        return data
    inputs = getattr(model, "inputs", None) or ()
    is_inputs = len(inputs) == len(data) and all(hasattr(x, "shape") for x in data)
    return data if is_inputs else data[0]


def _batch_size(data: Any) -> int:
    """More where samples are a few floats: the calls take the time then."""
    arrays = list(_arrays(data))
    small = all(np.prod(array.shape[1:]) <= _SMALL for array in arrays)
    floats = all("float" in str(array.dtype) for array in arrays)
    return _LARGE_BATCH if arrays and small and floats else BATCH


def _spread(data: Any, samples: int) -> Any:
    flat = list(_arrays(data))
    if not flat or len(flat[0]) <= samples:
        return data
    rows = np.linspace(0, len(flat[0]) - 1, samples).astype(int)
    return keras.tree.map_structure(
        lambda a: np.asarray(keras.ops.convert_to_numpy(a))[rows], data
    )


def _arrays(data: Any) -> Iterator[Any]:
    """The arrays of data that holds all samples; none of a loader."""
    flat = keras.tree.flatten(data) if isinstance(data, list | tuple | dict) else [data]
    if all(hasattr(value, "shape") and len(value.shape) for value in flat):
        yield from flat


def _checked(values: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(keras.ops.convert_to_numpy(values))
    except Exception as error:
        raise DataError(
            f"`{_NAME}` must hold arrays of numbers, got {type(values).__name__}: "
            f"{error}"
        ) from error
    if array.dtype.kind not in "fiubSUO" and array.dtype.name != "bfloat16":
        raise DataError(f"`{_NAME}` must hold numbers, got the type {array.dtype}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(
            f"`{_NAME}` holds NaN or infinity. Remove these samples, or fill what is "
            "missing as it was in training."
        )
    return array
