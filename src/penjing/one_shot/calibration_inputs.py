"""The inputs that weights are compressed by: read once, gone through several times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from penjing.data.batches import (
    are_arrays,
    input_batches,
    loader_batches,
    without_labels,
)
from penjing.engine.batch_statistics import run_on_data
from penjing.errors import DataError
from penjing.export.samples import spread_evenly

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
    `y` is left out; a loader that gives `x`, `(x, y)` or `(x, y, sample_weight)`, also
    as lists; or a function without arguments that gives one of these. Tables and nested
    lists of numbers are arrays too. Of arrays samples are spread evenly, of a loader
    the first are taken. A DataError says that there are none, or that they are not
    finite.
    """
    if callable(data) and not hasattr(data, "shape") and not _is_loader(data):
        data = data()
    if data is None:
        raise DataError(
            f"`{_NAME}` is missing. Give inputs of the model: about a hundred are "
            "enough, labels are not needed."
        )
    count = len(getattr(model, "inputs", None) or ())
    batches, taken = [], 0
    for arrays in _batches(data, count, samples):
        size = len(keras.tree.flatten(arrays)[0])
        if not size:
            continue
        room = samples - taken
        batches.append(keras.tree.map_structure(lambda a: a[:room], arrays))  # noqa: B023
        taken += min(size, room)
        if taken >= samples:
            break
    if not batches:
        raise DataError(f"`{_NAME}` is empty. Give about a hundred inputs.")
    run_on_data(model, keras.tree.map_structure(lambda a: a[:1], batches[0]), _NAME)
    return batches


def _is_loader(data: Any) -> bool:
    return hasattr(data, "__iter__") or hasattr(data, "__getitem__")


def _batches(data: Any, count: int, samples: int) -> Iterator[Any]:
    """Batches as arrays: of data that holds all samples they are cut."""
    if isinstance(data, list | tuple | Mapping) and not data:
        return
    if isinstance(data, list) and _are_batches(data, count):
        data = iter(data)
    elif isinstance(data, tuple):
        data = without_labels(data, count)
    if not _holds_all(data):
        for batch in loader_batches(data, _NAME):
            yield _as_arrays(without_labels(batch, count))
        return
    arrays = _as_arrays(data)
    chosen = spread_evenly(keras.tree.flatten(arrays), samples)
    arrays = keras.tree.pack_sequence_as(arrays, chosen)
    yield from input_batches(arrays, _batch_size(arrays), _NAME)


def _holds_all(data: Any) -> bool:
    """Whether data holds all samples; else it gives batches of them."""
    return isinstance(data, list | tuple | Mapping) or hasattr(data, "shape")


def _are_batches(data: list[Any], count: int) -> bool:
    """Whether a list holds batches; else it has an array for each input, or numbers."""
    if all(isinstance(item, tuple) for item in data):
        return True
    nested = all(isinstance(item, list | Mapping) for item in data)
    leaves = keras.tree.flatten(data)
    return nested and len(leaves) != count and are_arrays(leaves)


def _as_arrays(data: Any) -> Any:
    """NumPy arrays, nested as they came: each has as many samples, none is missing."""
    arrays = _nested_arrays(data)
    leaves = keras.tree.flatten(arrays)
    if not leaves:
        raise DataError(f"`{_NAME}` is empty. Give about a hundred inputs.")
    if any(array.ndim == 0 for array in leaves):
        raise DataError(
            f"`{_NAME}` has a single number where an array of samples is needed. Give "
            "arrays whose first axis counts samples; data sets must be batched."
        )
    sizes = [len(array) for array in leaves]
    if len(set(sizes)) > 1:
        raise DataError(
            f"`{_NAME}` needs the same number of samples for each input, got {sizes}."
        )
    return arrays


def _nested_arrays(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _nested_arrays(value) for key, value in data.items()}
    is_structure = isinstance(data, list | tuple)
    if is_structure and any(hasattr(v, "shape") for v in keras.tree.flatten(data)):
        return [_nested_arrays(value) for value in data]
    return _checked(data)


def _batch_size(arrays: Any) -> int:
    """More where samples are a few floats: the calls take the time then."""
    leaves = keras.tree.flatten(arrays)
    small = all(np.prod(array.shape[1:]) <= _SMALL for array in leaves)
    floats = all("float" in str(array.dtype) for array in leaves)
    return _LARGE_BATCH if small and floats else BATCH


def _checked(values: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(keras.ops.convert_to_numpy(values))
    except Exception as error:
        raise DataError(
            f"`{_NAME}` must hold arrays of numbers, got {type(values).__name__}: "
            f"{error}"
        ) from error
    is_known = array.dtype.kind in "fiubSU" or array.dtype.name == "bfloat16"
    is_text = array.dtype.kind == "O" and all(
        isinstance(value, str | bytes) for value in array.flat
    )
    if not is_known and not is_text:
        raise DataError(f"`{_NAME}` must hold numbers, got the type {array.dtype}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(
            f"`{_NAME}` holds NaN or infinity. Remove these samples, or fill what is "
            "missing as it was in training."
        )
    return array
