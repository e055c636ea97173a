"""What a text says of data: a folder, a file or a function. Loads nothing heavy."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

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
        name = text.partition(":")[0].partition(".")[0]
        if not has_module(name):
            raise DataError(
                f"Cannot import {name!r} for the data {text!r}: there is no such "
                f"module. {where_modules_are()}"
            )


def check_pixels(spec: Any, pixel_maximum: float) -> None:
    """Refuse to scale the pixels of data that is no folder of images."""
    is_text = isinstance(spec, (str, os.PathLike))
    if pixel_maximum != 255.0 and not (is_text and Path(spec).expanduser().is_dir()):
        raise DataError(
            "Pixels are scaled where the data is a folder of images; other data is "
            "taken as it is. Leave out `pixels` (--pixels), or scale the data yourself."
        )


def has_module(name: str) -> bool:
    """Whether a module, without dots, is in the current folder or installed.

    The current folder is not put on the path: what is imported next, such as Keras, is
    not to be looked for there.
    """
    if name in sys.modules:
        return True
    importlib.invalidate_caches()
    if importlib.machinery.PathFinder.find_spec(name, [os.getcwd()]) is not None:
        return True
    # Also what is installed to be edited, which only its own finder knows.
    return name != "" and importlib.util.find_spec(name) is not None


def look_in_current_folder() -> None:
    """Put the current folder on the path of modules, where it is not yet."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()


def where_modules_are() -> str:
    """Say where a user's modules are looked for."""
    return f"It is looked for in {os.getcwd()} and among the installed packages."
