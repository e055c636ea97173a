"""Inputs for a model: the user's representative data, or seeded random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from penjing.data.batches import loader_batches
from penjing.errors import DataError
from penjing.models.keras_private import all_layers
from penjing.models.signature import InputSignature, ModelInput

MAX_SAMPLES = 500
_FREE_SIZE = 32  # Of an axis whose size the model leaves free.


def representative_samples(
    data: Any, signature: InputSignature, limit: int = MAX_SAMPLES
) -> list[np.ndarray]:
    """Read inputs of a model out of whatever holds them.

    Args:
        data: Array; list or tuple of arrays in the order of the inputs; dict by
            input name; `tf.data.Dataset`, `keras.utils.PyDataset`, PyTorch loader or
            another iterable of batches, each `x`, `(x, y)` or `(x, y, weights)`; or
            a function without arguments that returns one of these.
        signature: The inputs.
        limit: Samples taken at most: spread evenly over arrays, the first ones of
            an iterable, which may be endless.

    Returns:
        For each input an array of shape `(samples, ...)` in the type of the input.

    Raises:
        DataError: If the data does not fit the inputs.
    """
    if callable(data) and not hasattr(data, "shape"):
        data = data()
    whole = _whole_arrays(data, signature)
    arrays = _collected(data, signature, limit) if whole is None else whole
    arrays = [
        _checked(array, item)
        for array, item in zip(arrays, signature.inputs, strict=True)
    ]
    lengths = {
        item.name: len(a) for item, a in zip(signature.inputs, arrays, strict=True)
    }
    if len(set(lengths.values())) > 1 or not len(arrays[0]):
        raise DataError(
            "`representative_data` needs the same number of samples for each input, "
            f"at least 1, got {lengths}."
        )
    return [
        _finite(a, item)
        for a, item in zip(spread_evenly(arrays, limit), signature.inputs, strict=True)
    ]


def without_spread(samples: list[np.ndarray], signature: InputSignature) -> list[str]:
    """Say of which float inputs all values are equal: no range can be seen in them."""
    return [
        f"All values of `representative_data` for the input `{item.name}` are equal "
        f"({array.flat[0]:g}), so ranges of activations are those of this one value, "
        "and outputs for other inputs can be far off. Give real inputs."
        for item, array in zip(signature.inputs, samples, strict=True)
        if array.dtype.kind == "f" and array.size > 1 and np.ptp(array) == 0
    ]


def random_samples(
    signature: InputSignature, model: keras.Model, count: int, seed: int = 0
) -> list[np.ndarray]:
    """Make inputs from the input specification alone: `(count, ...)` for each input.

    Floats are standard normal, integers from 0 up to the bound: ids stay below the
    smallest vocabulary of the model's layers. An axis of free size gets 32 steps.
    """
    generator = np.random.default_rng(seed)
    bound = _smallest_vocabulary(model)
    return [_random_array(item, count, bound, generator) for item in signature.inputs]


def spread_evenly(arrays: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Take at most `count` samples, spread evenly over the arrays."""
    if len(arrays[0]) <= count:
        return arrays
    rows = np.linspace(0, len(arrays[0]) - 1, count).astype(int)
    return [array[rows] for array in arrays]


def repeated(arrays: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Take `count` samples: those of the arrays, again and again where they are few."""
    return [np.resize(array, (count, *array.shape[1:])) for array in arrays]


def compared_samples(
    samples: list[np.ndarray] | None,
    signature: InputSignature,
    model: keras.Model,
    count: int,
) -> list[np.ndarray]:
    """Samples that a file is compared on: some of those given, else random ones.

    As many as the model's batch where that is fixed.
    """
    batch = signature.inputs[0].shape[0]
    count = count if batch is None else batch
    if samples is None:
        return random_samples(signature, model, count)
    chosen = spread_evenly(samples, count)
    return repeated(chosen, count) if batch else chosen


def _whole_arrays(data: Any, signature: InputSignature) -> list[Any] | None:
    """Arrays that already hold all samples, or None where `data` gives batches."""
    names = [item.name for item in signature.inputs]
    if isinstance(data, Mapping):
        placed = _by_structure(data, signature)
        if placed is not None:
            return placed
        if set(data) != set(names):
            raise DataError(
                f"`representative_data` has the keys {list(data)}, but the model has "
                f"the inputs {names}. Use these names as keys."
            )
        return [data[name] for name in names]
    if hasattr(data, "shape"):
        return _one_for_one([data], names)
    if isinstance(data, list | tuple) and data:
        are_arrays = all(hasattr(value, "shape") for value in data)
        if are_arrays and len(names) == 1 and _has_labels(data):
            return [data[0]]
        if len(names) > 1 and _has_nested_inputs(data):
            return _whole_arrays(data[0], signature)
        if are_arrays and len(data) == len(names):
            return list(data)
        if not are_arrays and np.isscalar(keras.tree.flatten(data)[0]):
            return _one_for_one([data], names)
    return None


def _by_structure(
    data: Mapping[str, Any], signature: InputSignature
) -> list[Any] | None:
    """The inputs of data in the structure that the model itself is called with.

    Names may be others there. None for data of another structure.
    """
    found: dict[int, Any] = {}

    def place(at: Any, value: Any) -> bool:
        if isinstance(at, Mapping):
            same = isinstance(value, Mapping) and set(at) == set(value)
            return same and all(place(at[key], value[key]) for key in at)
        if isinstance(at, list | tuple):
            same = isinstance(value, list | tuple) and len(at) == len(value)
            return same and all(map(place, at, value))
        found[at] = value
        return not isinstance(value, Mapping)

    if not place(signature.structure, data):
        return None
    return [found[position] for position in range(len(signature.inputs))]


def _has_labels(data: list[Any] | tuple[Any, ...]) -> bool:
    """Whether arrays are `(x, y)` or `(x, y, weights)`, as Keras takes a tuple."""
    return (
        isinstance(data, tuple)
        and len(data) in (2, 3)
        and all(value.shape and len(value) == len(data[0]) for value in data)
    )


def _has_nested_inputs(data: list[Any] | tuple[Any, ...]) -> bool:
    """Whether data is such a tuple in which `x` is a list or a mapping."""
    first, *others = data
    return (
        isinstance(data, tuple)
        and isinstance(first, list | tuple | Mapping)
        and 0 < len(others) < 3
        and all(hasattr(value, "shape") for value in others)
    )


def _one_for_one(arrays: list[Any], names: list[str]) -> list[Any]:
    if len(names) != len(arrays):
        raise DataError(
            f"The model has {len(names)} inputs {names}, but `representative_data` "
            f"holds {len(arrays)}. Pass a list in this order or a dict by name."
        )
    return arrays


def _collected(data: Any, signature: InputSignature, limit: int) -> list[np.ndarray]:
    batches: list[list[np.ndarray]] = []
    total = 0
    for number, batch in enumerate(loader_batches(data, "representative_data")):
        arrays = _inputs_of_batch(batch, signature)
        batches.append(
            [_checked(a, i) for a, i in zip(arrays, signature.inputs, strict=True)]
        )
        total += len(batches[-1][0])
        if total >= limit or number + 1 >= limit:
            break
    if not batches:
        raise DataError("`representative_data` gives no batches. Pass some samples.")
    try:
        columns = zip(*batches, strict=True)
        return [np.concatenate(column)[:limit] for column in columns]
    except ValueError as error:
        raise DataError(
            "The batches of `representative_data` have different shapes. Pad them to "
            f"one size: {error}."
        ) from error


def _inputs_of_batch(batch: Any, signature: InputSignature) -> list[Any]:
    """Find the inputs in `x`, `(x, y)` or `(x, y, weights)`."""
    count = len(signature.inputs)
    if isinstance(batch, list | tuple) and batch:
        flat = all(hasattr(value, "shape") for value in batch)
        if count == 1 or not (flat and len(batch) == count):
            batch = batch[0]
    arrays = _whole_arrays(batch, signature)
    if arrays is None:
        raise DataError(
            f"A batch of `representative_data` must hold {count} input arrays, got "
            f"{type(batch).__name__}."
        )
    return arrays


def _checked(values: Any, item: ModelInput) -> np.ndarray:
    array = _numpy(values, item)
    fits = array.ndim == len(item.shape) and all(
        size in (None, actual)
        for size, actual in zip(item.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        shown = ", ".join(
            ["samples", *("any" if s is None else str(s) for s in item.shape[1:])]
        )
        raise DataError(
            f"Input `{item.name}` of the model has the shape ({shown}), but "
            f"`representative_data` has {array.shape}. Data sets must be batched."
        )
    return array


def _numpy(values: Any, item: ModelInput) -> np.ndarray:
    try:
        array = np.asarray(keras.ops.convert_to_numpy(values))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"`representative_data` for input `{item.name}` is not an array: {error}"
        ) from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"`representative_data` for input `{item.name}` must be numbers, got "
            f"the type {array.dtype}."
        )
    return array


def _finite(array: np.ndarray, item: ModelInput) -> np.ndarray:
    if not np.isfinite(array).all():
        raise DataError(
            f"`representative_data` for input `{item.name}` holds NaN or infinity. "
            "Remove these samples."
        )
    return _as_stored(array, item)


def _as_stored(array: np.ndarray, item: ModelInput) -> np.ndarray:
    """In the type of the input, which must hold the numbers."""
    kind = np.dtype(item.dtype)
    if kind.kind not in "iu" or array.dtype == kind or not array.size:
        return array.astype(kind)
    low, high = float(array.min()), float(array.max())
    ends = np.iinfo(kind)
    is_whole = array.dtype.kind != "f" or np.array_equal(array, np.rint(array))
    if not is_whole or low < ends.min or high > ends.max:
        raise DataError(
            f"`representative_data` for input `{item.name}` goes from {low:g} to "
            f"{high:g}{'' if is_whole else ' in fractions'}, and the input takes whole "
            f"numbers of the type {kind}. Give them as the model was trained on them."
        )
    return array.astype(kind)


def _smallest_vocabulary(model: keras.Model) -> int | None:
    sizes = []
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.Embedding):
            sizes.append(layer.input_dim)
        elif isinstance(layer, keras.layers.CategoryEncoding) and layer.num_tokens:
            sizes.append(layer.num_tokens)
    return min(sizes) if sizes else None


def _random_array(
    item: ModelInput, count: int, bound: int | None, generator: np.random.Generator
) -> np.ndarray:
    sizes = [_FREE_SIZE if size is None else size for size in item.shape[1:]]
    shape = (count, *sizes)
    if item.dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    if item.dtype == "uint8" and bound is None:
        return generator.integers(0, 256, shape, dtype="uint8")
    if item.dtype.startswith(("int", "uint")):
        return generator.integers(0, bound or 2, shape).astype(item.dtype)
    return generator.normal(size=shape).astype(item.dtype)
