"""What tells measurements of models apart."""

from __future__ import annotations

import hashlib
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
    and dicts; objects of Keras count by their configs, functions by their code. `x` and
    `y` are as in `penjing.evaluate`. The order of the samples does not matter, for
    loaders may shuffle them.
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


def _plain(value: Any, places: Mapping[str, int]) -> Any:
    """Nested lists of numbers and texts: nothing that has an address."""
    if isinstance(value, str):
        return places.get(value, value)
    if isinstance(value, (int, float, type(None))):
        return value
    if isinstance(value, Mapping):
        return [(str(key), _plain(item, places)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(item, places) for item in value]
    if hasattr(value, "__code__"):
        code = value.__code__
        return value.__qualname__, code.co_code.hex(), _plain(code.co_consts, places)
    name = type(value).__qualname__
    try:
        return name, _plain(value.get_config(), places)
    except Exception:  # it has none, or its class was written without
        return name


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
