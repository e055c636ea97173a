"""Keras models to files: whole or not at all, and the same bytes for the same model."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from penjing.files import atomic_path, temporary_folder, write_bytes
from penjing.models.copying import is_functional

# The earliest date that a zip file can hold, in its terms and in those of Keras.
_DATE = (1980, 1, 1, 0, 0, 0)
_DATE_TEXT = "1980-01-01@00:00:00"


def write_keras(model: keras.Model, path: Path) -> None:
    """Write a model as `.keras`.

    Keras writes the time, and addresses in memory to say which objects are the same:
    here the time is the earliest that a zip file can hold, and these objects are
    counted. Types of numbers are values: it does not matter which are one object.
    """
    with atomic_path(path) as saved:
        model.save(saved)
        with (
            atomic_path(saved) as temporary,
            zipfile.ZipFile(saved) as source,
            zipfile.ZipFile(temporary, "w") as target,
        ):
            for member in source.infolist():
                _copy_member(source, target, member)


def _copy_member(
    source: zipfile.ZipFile, target: zipfile.ZipFile, member: zipfile.ZipInfo
) -> None:
    again = zipfile.ZipInfo(member.filename, _DATE)
    again.file_size = member.file_size  # by which large ones are known
    rewrite = _REWRITTEN.get(member.filename)
    with source.open(member) as given, target.open(again, "w") as written:
        if rewrite is None:
            shutil.copyfileobj(given, written)
        else:
            content = json.loads(given.read())
            rewrite(content)
            written.write(json.dumps(content).encode())


def _date_early(metadata: dict[str, Any]) -> None:
    metadata["date_saved"] = _DATE_TEXT


def _count_shared(config: Any) -> None:
    numbers: dict[Any, int] = {}
    for table in _tables(config):
        if str(table.get("class_name", "")).endswith("DTypePolicy"):
            table.pop("shared_object_id", None)
        if "shared_object_id" in table:
            number = numbers.setdefault(table["shared_object_id"], len(numbers))
            table["shared_object_id"] = number


def _tables(value: Any) -> Iterator[dict[str, Any]]:
    """All dicts in nested lists and dicts, the outer ones first."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
        if isinstance(value, (dict, list)):
            pending += value.values() if isinstance(value, dict) else value


_REWRITTEN = {"metadata.json": _date_early, "config.json": _count_shared}


def write_h5(model: keras.Model, path: Path) -> str:
    """Write a model as `.h5` without its optimizer: the baseline of all ratios.

    Keras writes the architecture of Sequential and Functional models only; of others
    the weights alone are written. Returns the name of the file.
    """
    is_graph = isinstance(model, keras.Sequential) or is_functional(model)
    write_bytes(path, _h5_model(model) if is_graph else _h5_weights(model))
    return path.name


def _h5_model(model: keras.Model) -> bytes:
    """A `.h5` file as bytes, made in memory: HDF5 crashes where a disk is full."""
    import h5py

    class MemoryFile(h5py.File):
        """Takes the place of a path; Keras reads the format from its name."""

        def __str__(self) -> str:
            return "model.h5"

    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)  # without the advice to use `.keras`
    try:
        with MemoryFile("model.h5", "w", driver="core", backing_store=False) as file:
            model.save(file, include_optimizer=False)
            file.flush()
            return bytes(file.id.get_file_image())
    finally:
        logger.setLevel(level)


def _h5_weights(model: keras.Model) -> bytes:
    with temporary_folder("penjing-weights") as folder:
        path = Path(folder, "model.weights.h5")
        model.save_weights(path)
        return path.read_bytes()
