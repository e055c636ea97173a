"""What shells offer after Tab, besides names of commands and options.

Nothing is loaded for it, and no file is opened: the answer comes with each press of the
key.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from penjing.budget.budget import OBJECTIVES, PARTS, RUNTIMES
from penjing.recipes.recipe_text import (
    packaged_recipes,
    read_known_keys,
    read_recipe,
)
from penjing.tflite.modes import MODES

Completion = Callable[[str], list[str]]

_MOST_ENTRIES = 5000
"""Of a folder: with more of them nobody looks for one by Tab."""


def files_ending(*suffixes: str) -> Completion:
    """Complete names of files with one of these endings, and folders on the way.

    A folder that is the only answer is looked into, as the shell puts a space behind
    what stands alone.
    """

    def complete(incomplete: str) -> list[str]:
        """Paths that go on from what was typed."""
        found = list(_entries(incomplete, suffixes))
        while len(found) == 1 and found[0].endswith("/"):
            below = list(_entries(found[0], suffixes))
            if not below:
                break
            found = below
        return found

    return complete


def one_of(values: Iterable[str]) -> Completion:
    """Complete one of a few words."""
    words = list(values)

    def complete(incomplete: str) -> list[str]:
        """Words that go on from what was typed."""
        return [word for word in words if word.startswith(incomplete)]

    return complete


def recipes(incomplete: str) -> list[tuple[str, str]]:
    """Complete packaged recipes, with what they do, and TOML files."""
    named = [
        (name, str(read_recipe(name)[0].get("description", "")))
        for name in packaged_recipes()
        if name.startswith(incomplete)
    ]
    return [*named, *((file, "") for file in files_ending(".toml")(incomplete))]


def settings(incomplete: str) -> list[tuple[str, str]]:
    """Complete keys of a recipe up to their value, with what they mean."""
    tables = read_known_keys()["tables"]
    return [
        (f"{table}.{key}=", str(known["meaning"]))
        for table in ("training", "export")
        for key, known in tables[table].items()
        if f"{table}.{key}=".startswith(incomplete)
    ]


models = files_ending(".keras", ".h5", ".hdf5")
litert_files = files_ending(".tflite")
reports = files_ending(".json")
any_models = files_ending(".keras", ".h5", ".hdf5", ".tflite")
arrays = files_ending(".npz", ".npy")
quantizations = one_of(mode.name for mode in MODES)
budget_runtimes = one_of(RUNTIMES)
kernel_runtimes = one_of((*RUNTIMES, "ethos-u"))
objectives = one_of(OBJECTIVES)
parts_of_data = one_of(PARTS)


def _entries(incomplete: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Paths that begin with what was typed, spelt as it was."""
    folder, start = os.path.split(incomplete)
    prefix = incomplete[: len(incomplete) - len(start)]
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            listed = list(itertools.islice(entries, _MOST_ENTRIES))
    except OSError:
        return
    for entry in sorted(listed, key=lambda entry: entry.name):
        if not entry.name.startswith(start) or (entry.name[0] == "." and not start):
            continue
        if entry.is_dir():
            yield f"{prefix}{entry.name}/"
        elif Path(entry.name).suffix.lower() in suffixes:
            yield prefix + entry.name
