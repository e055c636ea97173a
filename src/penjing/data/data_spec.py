"""What a text says of data: a folder, a file or a function. Loads nothing heavy."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import re
import sys
from pathlib import Path

from penjing.errors import DataError

FILES = (
    "an .npz file with x_train, y_train, x_test and y_test; module:function; a folder "
    "of class folders of images."
)
FORMS = f"Allowed: {FILES}"
# What pixels of images can go from and to -> the value of white.
PIXELS = {"0-255": 255.0, "0-1": 1.0}
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def kind_of_data(text: str) -> str:
    """Say whether a text names a `"folder"`, a `"file"` or a `"function"`.

    What is not there, or of another kind, is a DataError. A function is not imported.

    Example:
        >>> kind_of_data("my_module:load")
        'function'
    """
    path = Path(text).expanduser()
    if path.is_dir():
        return "folder"
    if path.suffix.lower() == ".npz":
        if not path.is_file():
            raise DataError(f"There is no file {path}. {FORMS}")
        return "file"
    if _FUNCTION.fullmatch(text):
        return "function"
    if path.exists():
        raise DataError(f"Cannot read {path} as data: unknown suffix. {FORMS}")
    raise DataError(f"There is no data {text!r}. {FORMS}")


def check_data(text: str) -> None:
    """Refuse what can be no data, a function whose module is not there too."""
    if kind_of_data(text) == "function":
        look_in_current_folder()
        name = text.partition(":")[0].partition(".")[0]
        known = name in sys.modules or name in sys.builtin_module_names
        if not known and importlib.machinery.PathFinder.find_spec(name) is None:
            raise DataError(
                f"Cannot import {name!r} for the data {text!r}: there is no such "
                f"module. {where_modules_are()}"
            )


def look_in_current_folder() -> None:
    """Put the current folder on the path of modules, where it is not yet."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()


def where_modules_are() -> str:
    """Say where a user's modules are looked for."""
    return f"It is looked for in {os.getcwd()} and among the installed packages."
