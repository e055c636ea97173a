"""The errors and the warning that penjing raises, and the import of an extra."""

from __future__ import annotations

import importlib
from types import ModuleType


class CompressionError(Exception):
    """Base of every error that penjing itself raises."""


class UnsupportedModelError(CompressionError, ValueError):
    """A model or layer that the asked method cannot handle."""


class ExportError(CompressionError, RuntimeError):
    """A conversion that failed, or a written file that computes something else."""


class DataError(CompressionError, ValueError):
    """A data set that cannot be found, read or used with the model."""


class FileFormatError(CompressionError, ValueError):
    """A file that is corrupt, of an unknown format or beyond the size limit."""


class MissingDependencyError(CompressionError, ImportError):
    """An optional package that is not installed."""


class RecipeError(CompressionError, ValueError):
    """A recipe with an unknown key or an impossible value."""


class CompressionWarning(UserWarning):
    """Something that goes on, but will not give what was asked for."""


def require_extra(module: str, extra: str) -> ModuleType:
    """Import a module, by its dotted name, that one of penjing's extras installs.

    If it is not installed, a MissingDependencyError names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        raise MissingDependencyError(
            f"This needs the module `{module}`, which is not installed. "
            f'Install it with: pip install "penjing[{extra}]"'
        ) from error
