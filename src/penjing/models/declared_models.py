"""What a saved model asks for, found out before it gets it.

A config of a few kilobytes can ask for any number of layers, and for variables of any
size. It is read here as a table first, and then made without values.
"""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.errors import FileFormatError
from penjing.files import limit, raise_limits
from penjing.models.keras_private import all_layers, layer_outputs, without_values

MAX_CONFIG_BYTES = 32 * 2**20
MAX_LAYERS = 4_000
MAX_OBJECTS_PER_LAYER = 25
MAX_EXAMPLE_BYTES = 2**30  # of one layer's output for one example
# An optimizer has up to five values for each weight, and what it has not trained yet is
# in no file.
_VARIABLES_PER_VALUE = 6
_VARIABLES_FLOOR = 128 * 2**20
# Arguments by which a metric takes memory as soon as it is made.
_GREEDY = {"num_thresholds": 10_000, "num_classes": 10_000}
_CHEAP = (
    {
        *("__tensor__", "__numpy__", "__keras_tensor__", "__tuple__", "__ellipsis__"),
        *("slice", "function", "string", "bytes", "TensorShape", "TypeSpec"),
    }
    | {
        name
        for module in (keras.initializers, keras.regularizers, keras.constraints)
        for name in vars(module)
    }
    | set(vars(keras.dtype_policies))
)


def check_config(text: bytes | str, path: Path) -> Any:
    """Read the config of a model, and refuse one that asks for too much.

    Gives what JSON gives. Text that is no JSON is a ValueError or RecursionError.
    """
    if len(text) > limit(MAX_CONFIG_BYTES):
        raise _too_much(path, f"its config has {len(text):,} bytes")
    config = json.loads(text)
    objects = layers = 0
    for entry in _tables(config):
        for name, most in _GREEDY.items():
            value = entry.get(name)
            if isinstance(value, (int, float)) and value > limit(most):
                raise _too_much(path, f"`{name}` of one of its objects is {value:,}")
        if isinstance(entry.get("class_name"), str):
            objects += 1
            layers += entry["class_name"] not in _CHEAP
    most = limit(MAX_LAYERS)
    if layers > most or objects > most * MAX_OBJECTS_PER_LAYER:
        raise _too_much(path, f"it has {layers:,} layers and {objects:,} objects")
    return config


def _tables(config: Any) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, dict):
            yield entry
            waiting.extend(entry.values())
        elif isinstance(entry, list):
            waiting.extend(entry)


def most_variable_bytes(stored: int) -> int:
    """How large the variables of a model may be, of a file of so many bytes."""
    return limit(_VARIABLES_FLOOR) + _VARIABLES_PER_VALUE * stored


def check_variables(make: Callable[[], Any], stored: int, path: Path) -> None:
    """Refuse a model whose variables or outputs are larger than its file explains.

    `make` makes the model, here without values; what it raises is left to those who
    make it again. `stored` are the bytes of the arrays in the file.
    """
    most = most_variable_bytes(stored)
    chance, old_chance = random.getstate(), np.random.get_state()
    model = None
    with without_values() as made, warnings.catch_warnings(action="ignore"):
        try:
            model = make()
        except Exception:  # said where it is loaded
            model = None
        total = sum(map(_bytes, made))
        largest = max(map(_example_bytes, _outputs(model)), default=0)
    random.setstate(chance)
    np.random.set_state(old_chance)
    if total > most:
        raise _too_much(
            path,
            f"its variables would take {total:,} bytes, and the file holds {stored:,}",
        )
    if largest > limit(MAX_EXAMPLE_BYTES):
        raise _too_much(path, f"a layer would give {largest:,} bytes for one example")


def _outputs(model: Any) -> list[Any]:
    if not isinstance(model, keras.Model):
        return []
    return [output for layer in all_layers(model) for output in layer_outputs(layer)]


def _bytes(variable: Any) -> int:
    return _size(variable.shape, str(variable.dtype))


def _example_bytes(tensor: Any) -> int:
    return _size(tensor.shape[1:], str(tensor.dtype))


def _size(shape: Any, dtype: str) -> int:
    item = 8 if "64" in dtype else 2 if "16" in dtype else 1 if "8" in dtype else 4
    return math.prod(int(size) for size in shape if size is not None) * item


def _too_much(path: Path, reason: str) -> FileFormatError:
    return FileFormatError(
        f"{path} asks for more than a model file may: {reason}. It is corrupt, "
        f"hostile or uncommonly large. {raise_limits()}"
    )
