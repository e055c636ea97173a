"""Keras models to files, whole or not at all."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import keras

from penjing.files import atomic_path, write_bytes
from penjing.models.copying import is_functional


def write_keras(model: keras.Model, path: Path) -> None:
    """Write a model as `.keras`."""
    with atomic_path(path) as temporary:
        model.save(temporary)


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.weights.h5")
        model.save_weights(path)
        return path.read_bytes()
