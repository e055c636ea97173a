"""Where the classes of a saved model are defined, for a process that shall load it."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.errors import CompressionError
from penjing.models.keras_private import all_layers


def modules_of(model: keras.Model, path: Path) -> tuple[set[str], list[str]]:
    """Modules outside Keras that hold classes or registered functions of a model.

    Args:
        model: The model.
        path: The `.keras` file that it was saved to.

    Returns:
        Names of the modules; and of what the script itself (`__main__`) defines, which
        no other process can import.
    """
    owners = {type(layer) for layer in all_layers(model)}
    found: list[Any] = []
    with zipfile.ZipFile(path) as archive:
        json.loads(
            archive.read("config.json"),
            object_hook=lambda part: found.append(part.get("registered_name")),
        )
    names = {name for name in found if isinstance(name, str)}
    owners |= {keras.saving.get_registered_object(name) for name in names} - {None}
    in_main = [o.__qualname__ for o in owners if o.__module__ == "__main__"]
    modules = {owner.__module__ for owner in owners} - {"__main__"}
    modules = {name for name in modules if name.split(".")[0] != "keras"}
    return modules, sorted(in_main)


@contextlib.contextmanager
def looking_in(places: Sequence[str]) -> Iterator[None]:
    """Look for modules, in the block, where another program found them.

    Its current folder may be among those places. Afterwards they come last: what else
    is imported, by TensorFlow say, is what is installed.
    """
    installed = list(sys.path)
    sys.path[:] = places
    try:
        yield
    finally:
        others = [place for place in places if place not in installed]
        sys.path[:] = [*installed, *others]


def import_modules(
    names: Sequence[str],
    places: Sequence[str],
    purpose: str,
    error: type[CompressionError] = CompressionError,
) -> None:
    """Import the user's modules, looked for where the program found them.

    One that cannot be imported is the error given, with the purpose in its message.
    """
    with looking_in(places):
        for name in names:
            try:
                importlib.import_module(name)
            except ImportError as reason:
                raise error(
                    f"The module `{name}`, named in `imports` or holding a class of "
                    f"the model, cannot be imported {purpose}: {reason}"
                ) from reason
