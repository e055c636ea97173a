"""Arrays and loaders as one stream of NumPy batches."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from penjing.errors import DataError

_FORMS = (
    "Allowed: arrays, lists or dicts of arrays, a tf.data.Dataset, a PyTorch "
    "DataLoader or a keras.utils.PyDataset that gives (x, y)."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batches:
    """Batches of `(x, y, sample_weight)` as NumPy arrays, and how many, if known."""

    stream: Iterator[tuple[Any, Any, Any]]
    count: int | None


def to_batches(x: Any, y: Any = None, batch_size: int = 128) -> Batches:
    """Cut arrays into batches, or take a loader's; a DataError if there are none.

    `x` is an array `(samples, ...)`, a list or dict of such arrays, or a loader that
    gives `(x, y)` or `(x, y, sample_weight)`: then `y` is None, and the batches have
    the loader's size.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int):
        raise DataError(f"`batch_size` must be an integer, got {batch_size!r}.")
    if batch_size < 1:
        raise DataError(f"`batch_size` must be 1 or more, got {batch_size}.")
    if _is_loader(x):
        if y is not None:
            raise DataError(
                f"A {type(x).__name__} gives the labels itself; leave out `y`."
            )
        return Batches(stream=_loaded(x), count=loader_length(x))
    if y is None:
        raise DataError(f"`y` is missing, and `x` is no loader that has it. {_FORMS}")
    return _cut(x, y, batch_size)


def input_batches(
    data: Any, batch_size: int, argument: str, model: Any = None
) -> Iterator[Any]:
    """Batches of a model's inputs alone; `argument` is what messages call the data.

    It is an array, or a list, tuple or dict of arrays, one for each input; or a loader
    that gives `x`, `(x, y)` or `(x, y, sample_weight)` in batches of its own size, as
    tuples, or as lists where `model` says how many inputs it has.
    """
    flat = keras.tree.flatten(data) if isinstance(data, list | tuple | dict) else [data]
    if flat and all(hasattr(value, "shape") for value in flat):
        arrays = keras.tree.map_structure(keras.ops.convert_to_numpy, data)
        for start in range(0, len(keras.tree.flatten(arrays)[0]), batch_size):
            cut = slice(start, start + batch_size)
            yield keras.tree.map_structure(lambda a: a[cut], arrays)  # noqa: B023
        return
    count = len(getattr(model, "inputs", None) or ())
    for batch in loader_batches(data, argument):
        yield without_labels(batch, count)


def without_labels(batch: Any, count: int) -> Any:
    """The inputs of `(x,)`, `(x, y)`, `(x, y, sample_weight)`, or such lists.

    A list or tuple with one array for each of `count` inputs stays as it is; of a model
    that does not say how many it has, Keras takes the first for the inputs.
    """
    if not isinstance(batch, list | tuple) or len(batch) not in (1, 2, 3):
        return batch
    if len(batch) == count > 1 and are_arrays(batch):
        return batch
    is_pair = isinstance(batch, tuple) or are_arrays(keras.tree.flatten(batch[0]))
    return batch[0] if is_pair else batch


def are_arrays(values: Iterable[Any]) -> bool:
    """Whether all have a shape."""
    return all(hasattr(value, "shape") for value in values)


def loader_batches(loader: Any, argument: str) -> Iterator[Any]:
    """What a loader gives, once through, or forever where it never ends."""
    if isinstance(loader, keras.utils.PyDataset):
        count = loader.num_batches
        numbers = itertools.count() if count is None else range(count)
        return (loader[number] for number in numbers)
    if not isinstance(loader, Iterable) or isinstance(loader, str | bytes):
        raise DataError(
            f"`{argument}` must be arrays, a data set or an iterable of batches, got "
            f"{type(loader).__name__}."
        )
    return iter(loader)


def check_batch(batch: Any, loader: str) -> None:
    """Refuse what is neither `(x, y)` nor `(x, y, sample_weight)`, with a DataError."""
    length = len(batch) if isinstance(batch, (tuple, list)) else None
    if length not in (2, 3):
        count = "" if length is None else f" of {length}"
        raise DataError(
            f"{loader} must give (x, y) or (x, y, sample_weight), got a "
            f"{type(batch).__name__}{count}."
        )


def to_arrays(value: Any, where: str) -> Any:
    """Turn a structure of tensors of any backend into one of NumPy arrays.

    `value` is an array or tensor, a nested list of numbers, or a list, tuple or dict of
    arrays; `where` is what messages call it.
    """
    if isinstance(value, Mapping):
        return {
            key: _to_array(item, f"{where}[{key!r}]") for key, item in value.items()
        }
    if isinstance(value, (list, tuple)) and any(hasattr(v, "shape") for v in value):
        return [_to_array(item, f"{where}[{n}]") for n, item in enumerate(value)]
    return _to_array(value, where)


def leaves(value: Any) -> list[Any]:
    """The arrays of a structure that `to_arrays` gave, in its own order."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list) else [value]


def _to_array(value: Any, where: str) -> np.ndarray[Any, Any]:
    if hasattr(value, "detach"):  # a PyTorch tensor, whatever the backend is
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except Exception as error:
        raise DataError(f"`{where}` is not an array ({error}). {_FORMS}") from error
    if array.dtype == object:
        raise DataError(
            f"`{where}` holds {type(value).__name__} objects, not numbers. {_FORMS}"
        )
    return without_uint64(array, where)


def without_uint64(array: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    """The same numbers as int64 where they are uint64, which no backend computes with.

    Example:
        >>> without_uint64(np.array([1, 2], np.uint64), "y").dtype
        dtype('int64')
    """
    if array.dtype != np.uint64:
        return array
    if array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"`{where}` is uint64 and holds {array.max()}, which is beyond int64. Give "
            "smaller numbers."
        )
    return array.astype(np.int64)


def _cut(x: Any, y: Any, batch_size: int) -> Batches:
    x, y = to_arrays(x, "x"), to_arrays(y, "y")
    lengths = {}
    for where, structure in (("x", x), ("y", y)):
        for position, array in enumerate(leaves(structure)):
            if array.ndim == 0:
                raise DataError(f"`{where}` is a single number, not samples. {_FORMS}")
            lengths[f"{where} ({position})" if position else where] = len(array)
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(
            f"All arrays need the same number of samples, but {shown}. Give every "
            "sample its label."
        )
    samples = lengths["x"] if lengths else 0
    if samples == 0:
        raise DataError("The data is empty: there is no sample to evaluate.")

    def stream() -> Iterator[tuple[Any, Any, Any]]:
        for start in range(0, samples, batch_size):
            cut = slice(start, start + batch_size)
            parts = keras.tree.map_structure(lambda a: a[cut], (x, y))  # noqa: B023
            yield *parts, None

    return Batches(stream=stream(), count=-(-samples // batch_size))


def _is_loader(x: Any) -> bool:
    if isinstance(x, keras.utils.PyDataset):
        return True
    is_data = isinstance(x, (Mapping, list, tuple, str, bytes)) or hasattr(x, "shape")
    return isinstance(x, Iterable) and not is_data


def loader_length(loader: Any) -> int | None:
    """Batches in a loader, None where it does not say; a DataError if it never ends."""
    length: int | None
    if isinstance(loader, keras.utils.PyDataset):
        length = loader.num_batches
        endless = length is None
    elif hasattr(loader, "cardinality"):  # tf.data: -1 is infinite, -2 unknown
        length = int(loader.cardinality())
        endless, length = length == -1, None if length < 0 else length
    else:
        endless = False
        try:
            length = len(loader)
        except TypeError:
            length = None
    if endless:
        raise DataError(
            f"This {type(loader).__name__} never ends. Give one that goes through the "
            "data once: leave out `.repeat()`, or add `.take(batches)`."
        )
    return length


def check_trainable(loader: Any, where: str) -> None:
    """Refuse a loader that Keras' `fit` does not take; others may iterate over it."""
    modules = {cls.__module__.partition(".")[0] for cls in type(loader).__mro__}
    known = isinstance(loader, keras.utils.PyDataset) or hasattr(loader, "element_spec")
    if not known and not modules & {"torch", "grain"}:
        raise DataError(
            f"{where} is a {type(loader).__name__}, which Keras cannot train on. Give "
            "(x, y), a tf.data.Dataset, a PyTorch DataLoader, or a class with "
            "`__getitem__` and `__len__` that inherits from keras.utils.PyDataset."
        )


def _loaded(loader: Any) -> Iterator[tuple[Any, Any, Any]]:
    number = -1
    for number, batch in enumerate(loader_batches(loader, "x")):
        check_batch(batch, "The loader")
        x, y = to_arrays(batch[0], "x"), to_arrays(batch[1], "y")
        sizes = {len(a) if a.ndim else 0 for a in (*leaves(x), *leaves(y))}
        if len(sizes) > 1 or sizes == {0}:
            raise DataError(
                f"Batch {number} of the loader has x of shape "
                f"{[a.shape for a in leaves(x)]} and y of shape "
                f"{[a.shape for a in leaves(y)]}. All need the same number of samples, "
                "at least 1, along the first axis: is the data batched?"
            )
        weight = batch[2] if len(batch) == 3 else None
        yield x, y, None if weight is None else to_arrays(weight, "sample_weight")
    if number < 0:
        raise DataError("The data is empty: the loader gave no batch.")
