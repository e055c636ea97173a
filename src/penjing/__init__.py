"""Make trained Keras 3 models small and fast, and prove what it cost."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any


def _is_command() -> bool:
    """Whether this process is `penjing` or `python -m penjing`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # until Python has found the module
        return "penjing" in sys.orig_argv
    return Path(program).stem == "penjing"


# The command says by itself when Keras is loaded, with which backend, and what of its
# log is shown. Programs get everything at once: so models load that hold our classes.
if TYPE_CHECKING or not _is_command():
    from penjing.public_names import *  # noqa: F403
    from penjing.public_names import __all__ as __all__


def __getattr__(name: str) -> Any:
    """Load what few programs need, `penjing.tfmot` and `penjing.compress`, when used.

    Raises:
        AttributeError: If penjing has no such name.
    """
    if name == "tfmot":
        return importlib.import_module("penjing.tfmot")
    if name == "compress":
        return importlib.import_module("penjing.pipeline").compress
    public = importlib.import_module("penjing.public_names")
    if name == "__all__" or name in public.__all__:  # in a module of the command's user
        return getattr(public, name)
    raise AttributeError(f"module 'penjing' has no attribute {name!r}")
