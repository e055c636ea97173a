"""Mistakes that are told before Keras is loaded, which takes seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import typer

from penjing.data.data_spec import check_data, has_module, where_modules_are
from penjing.errors import CompressionError, DataError, FileFormatError
from penjing.files import check_file, check_folder
from penjing.recipes.overrides import override, parse_settings
from penjing.recipes.recipe_text import check_keys, read_recipe

KERAS_FILES = (".keras", ".h5", ".hdf5")
MODEL_FILES = (*KERAS_FILES, ".tflite")


def check_alone(given: Iterable[str]) -> None:
    """Refuse options of which each is another job."""
    first, *others = sorted(given) or [""]
    if others:
        raise typer.BadParameter(
            f"is another job than {' and '.join(others)}: give them one at a time.",
            param_hint=first,
        )


def check_early(
    *,
    models: Sequence[Path] = (),
    suffixes: Sequence[str] = (),
    data: str | None = None,
    recipe: str | None = None,
    settings: Sequence[str] | None = None,
    out: Path | None = None,
    imports: Sequence[str] | None = None,
) -> None:
    """Refuse what can be known to be wrong without Keras; see the names of arguments.

    `suffixes` are the endings that the models may have; none allow any. `settings` are
    those of the recipe that are changed. `out` is a folder. Modules are looked for, not
    imported.
    """
    for path in models:
        _check_suffix(check_file(path), suffixes)
    for name in imports or ():
        check_module(name)
    if data is not None:
        check_data(data)
    if recipe is not None:
        table, where = read_recipe(recipe)
        check_keys(table, where)
        if settings:
            override(table, parse_settings(settings), where)
    if out is not None:
        check_folder(out)


def _check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    if suffixes and path.suffix.lower() not in suffixes:
        raise FileFormatError(
            f"{path} is of an unknown type: unknown suffix {path.suffix!r}. Allowed: "
            f"{', '.join(suffixes)}."
        )


def check_module(name: str) -> None:
    """Refuse a module that is not there, as the import would."""
    first = name.partition(".")[0]
    if not has_module(first):
        raise CompressionError(
            f"Cannot import {name!r}: there is no module {first!r}. "
            f"{where_modules_are()}"
        )


def check_bias_bits(bits: int | str | None, tolerance: float) -> None:
    """Refuse numbers that `shrink_litert` does not take."""
    if bits not in (None, "auto") and not (isinstance(bits, int) and bits <= 23):
        raise typer.BadParameter(
            f"takes auto or a number from 0 to 23, got {bits!r}.",
            param_hint="--bias-bits",
        )
    if not 0 <= tolerance < 1:
        raise typer.BadParameter(
            f"takes a number from 0 to below 1, got {tolerance}.",
            param_hint="--tolerance",
        )


def check_metrics(metrics: Sequence[str] | None) -> None:
    """Refuse names that Keras has no metric of, before any file is read.

    It loads Keras, and nothing else.
    """
    from penjing.measurement.scoring import unknown_metric

    for metric in metrics or ():
        if refusal := unknown_metric(metric):
            raise DataError(refusal)
