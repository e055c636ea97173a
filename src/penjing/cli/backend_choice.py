"""The Keras backend, chosen before Keras is imported."""

from __future__ import annotations

import enum
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from penjing.data.data_spec import look_in_current_folder
from penjing.errors import CompressionError


class Backend(enum.StrEnum):
    """The Keras backends."""

    tensorflow = "tensorflow"
    jax = "jax"
    torch = "torch"


class OtherBackendLoadedError(Exception):
    """Keras is loaded with another backend; the command has to start again."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.value)
        self.backend = backend


def select_backend(backend: Backend | None) -> None:
    """Import Keras with the backend that was asked for, or Keras' own choice.

    Refuses one whose package is not installed. OtherBackendLoadedError says that Keras
    was loaded with another one before.
    """
    if backend is not None and "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = backend.value
    try:
        import keras
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise CompressionError(
            f"The Keras backend needs the package `{package}`, which is not "
            f'installed. Install it with: pip install "penjing[{package}]", or '
            "choose another with --backend."
        ) from error
    if backend is not None and keras.backend.backend() != backend.value:
        raise OtherBackendLoadedError(backend)


def start_again(backend: Backend, arguments: Sequence[str]) -> NoReturn:
    """Start the same command in place of this process, with another backend.

    Refuses where the environment asks for that backend already.
    """
    if os.environ.get("KERAS_BACKEND") == backend.value:
        raise CompressionError(
            f"Keras does not take the backend {backend.value!r}. Set the environment "
            "variable KERAS_BACKEND and try again."
        )
    sys.stdout.flush()
    environment = {**os.environ, "KERAS_BACKEND": backend.value}
    # Without the current folder in the path, as in `__main__`.
    command = [sys.executable, "-P", "-m", "penjing", *arguments]
    os.execve(sys.executable, command, environment)


def import_modules(names: Sequence[str]) -> None:
    """Import the user's modules, which register classes of the model."""
    if names:
        look_in_current_folder()
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise CompressionError(
                f"Cannot import {name!r}: {type(error).__name__}: {error}. It is "
                "looked for in the current folder and among the installed packages."
            ) from error
