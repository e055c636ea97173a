"""What tells measurements of models apart."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from penjing.data.batches import leaves, to_batches
from penjing.models.copying import float_value
from penjing.models.keras_private import all_layers


def measurement_digest(model: keras.Model, settings: Any, x: Any, y: Any) -> str:
    """Tell measurements apart that may give other scores, the same in the next process.

    The model's layers, their configs and its weights count. `settings` are nested lists
    and dicts; objects of Keras count by their configs, functions by their code, their
    defaults and what they closed over. What they read of their modules does not count.
    `x` and `y` are as in `penjing.evaluate`. The order of the samples does not matter,
    for loaders may shuffle them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for variable in model.weights:
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(float_value(variable)).tobytes())
    digest.update(architecture_of(model).encode())
    digest.update(repr(_plain(settings, {})).encode())
    digest.update(_samples(x, y).encode())
    return digest.hexdigest()


def architecture_of(model: keras.Model) -> str:
    """Layers by their configs; where they stand in place of their automatic names."""
    layers = all_layers(model)
    places = {layer.name: number for number, layer in enumerate(layers)}
    return repr([_plain(layer, places) for layer in layers])


def _plain(value: Any, places: Mapping[str, int], inside: tuple[Any, ...] = ()) -> Any:
    """Nested lists of numbers and texts: nothing that has an address.

    `inside` are the functions and objects that hold the value.
    """
    if isinstance(value, str):
        return places.get(value, value)
    if isinstance(value, (bool, int, float, complex, bytes, type(None))):
        return value
    if isinstance(value, Mapping):
        return [(str(key), _plain(item, places, inside)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(item, places, inside) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(_plain(item, places, inside)) for item in value)
    if isinstance(value, (np.ndarray, np.generic)) or keras.ops.is_tensor(value):
        return _digest_of(keras.ops.convert_to_numpy(value))
    if isinstance(value, types.CodeType):
        consts = _plain(value.co_consts, places, inside)
        return value.co_code.hex(), value.co_names, consts
    name = getattr(value, "__qualname__", type(value).__qualname__)
    if any(value is other for other in inside):  # a function may hold itself
        return name
    parts = _parts_of(value)
    return name if parts is None else (name, _plain(parts, places, (*inside, value)))


def _parts_of(value: Any) -> Any:
    """What tells an object from others of its name; None where nothing does."""
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if hasattr(value, "__code__"):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        owner = getattr(value, "__self__", None)  # of a bound method
        return value.__code__, value.__defaults__, value.__kwdefaults__, cells, owner
    try:
        return value.get_config()
    except Exception:  # it has none, or its class was written without
        return None


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return None


def _digest_of(array: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...], str]:
    data = np.ascontiguousarray(array)
    content = repr(data.tolist()).encode() if data.dtype == object else data.tobytes()
    found = hashlib.blake2b(content, digest_size=16).hexdigest()
    return str(data.dtype), array.shape, found


def _samples(x: Any, y: Any) -> str:
    """All samples in any order: the sum of their digests."""
    total = 0
    for batch in to_batches(x, y).stream:
        arrays = [array for part in batch if part is not None for array in leaves(part)]
        for sample in zip(*arrays, strict=False):
            digest = hashlib.blake2b(digest_size=16)
            for value in sample:
                digest.update(np.ascontiguousarray(value).tobytes())
            total += int.from_bytes(digest.digest())
    return f"{total:x}"
