"""The table in a recipe's TOML: read, bounded, and its keys known without Keras."""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from penjing.arguments import did_you_mean
from penjing.errors import RecipeError
from penjing.recipes.recipe_values import check_value

MAX_RECIPE_BYTES = 1_000_000
# No setting is nested deeper, and no count of anything is larger.
MAX_DEPTH = 12
_MAX_WHOLE_NUMBER = 10**15
# A dotted key that is nested deeper: reading it takes time that grows with its square.
KEY_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(
    rf"(?:^|[\[{{,])[ \t]*{KEY_PART}(?:[ \t]*\.[ \t]*{KEY_PART}){{{MAX_DEPTH},}}",
    re.MULTILINE,
)
_PACKAGED = importlib.resources.files("penjing") / "recipes"


def packaged_recipes() -> list[str]:
    """Name the recipes that come with penjing."""
    names = (Path(entry.name) for entry in _PACKAGED.iterdir())
    return sorted(name.stem for name in names if name.suffix == ".toml")


def read_recipe(name_or_path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """Read the table of a recipe and what messages call it.

    It is named by a packaged name or a path. Its keys and the kinds of its values are
    not looked at; what no recipe can hold is a RecipeError.
    """
    text, where = read_recipe_text(name_or_path)
    if _LONG_KEY.search(text):
        raise RecipeError(_too_deep(where))
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        deep = isinstance(error, RecursionError)
        reason = "it is nested too deeply" if deep else str(error)
        raise RecipeError(f"{where} is not valid TOML: {reason}.") from error
    table.setdefault("name", Path(name_or_path).stem)
    check_values(table, where)
    return table, where


def read_recipe_text(name_or_path: str | os.PathLike[str]) -> tuple[str, str]:
    """Read the text of a recipe, comments and all, and what messages call it."""
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise RecipeError(
            "A recipe must be given as a Recipe, a name or a path, got an object of "
            f"type {type(name_or_path).__name__}. Packaged recipes: "
            f"{', '.join(packaged_recipes())}."
        )
    name = os.fspath(name_or_path)
    if name in packaged_recipes():
        text = (_PACKAGED / f"{name}.toml").read_text("utf-8")
        return text, f"the packaged recipe {name}"
    path = Path(name)
    try:
        if not path.is_file():
            hint = did_you_mean(name, packaged_recipes(), form="`{}`")
            raise RecipeError(
                f'No recipe "{name}": there is no such file, and the packaged recipes '
                f"are {', '.join(packaged_recipes())}.{hint}"
            )
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise RecipeError(
                f"{path} has {path.stat().st_size:,} bytes; a recipe has at most "
                f"{MAX_RECIPE_BYTES:,}. Is it another file?"
            )
        return path.read_text("utf-8-sig"), str(path)
    except RecipeError:
        raise
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise RecipeError(f"Cannot read the recipe {name}: {error}.") from error


def check_values(table: Mapping[str, Any], where: str) -> None:
    """Refuse what no recipe can hold, wherever in its table it is.

    That is nesting beyond any setting, numbers beyond any count, NaN and infinity, and
    values that are no tables, lists, names or numbers.
    """
    waiting: list[tuple[Any, str, int]] = [(table, where, 0)]
    while waiting:
        value, place, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise RecipeError(_too_deep(where))
        if isinstance(value, Mapping):
            waiting += [
                (item, f"{place}, `{key}`", depth + 1) for key, item in value.items()
            ]
        elif isinstance(value, (list, tuple)):
            waiting += [(item, place, depth + 1) for item in value]
        else:
            _check_scalar(value, place)


def _too_deep(where: str) -> str:
    return (
        f"{where} nests tables or lists more than {MAX_DEPTH} deep, which no setting "
        "does. Is it another file?"
    )


def _check_scalar(value: Any, place: str) -> None:
    if isinstance(value, int) and abs(value) > _MAX_WHOLE_NUMBER:
        digits = math.floor(math.log10(abs(value)))
        raise RecipeError(f"{place} is about 10^{digits}, which no setting can be.")
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{place} must be a finite number, got {value}.")
    if hasattr(value, "isoformat"):  # TOML's dates and times
        raise RecipeError(f"{place} is the date {value}, which no setting takes.")


@functools.cache
def read_known_keys() -> dict[str, Any]:
    """The keys of every table of a recipe, known without Keras."""
    return dict(json.loads((_PACKAGED / "keys.json").read_text("utf-8")))


def check_keys(table: Mapping[str, Any], where: str) -> None:
    """Refuse unknown keys and methods of a recipe, and values that no key takes.

    It loads no Keras. Reading the recipe refuses these too, and all else.
    """
    known = read_known_keys()
    rows = table.get("methods", [])
    top = {key: value for key, value in table.items() if key != "methods"}
    _check_level(top, known, "recipe", where)
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        if isinstance(row, Mapping) and isinstance(row.get("method"), str):
            place = f"{where}, methods[{index}]"
            check_method(row["method"], known["methods"], place)
            own = {key: value for key, value in row.items() if key != "method"}
            _check_level(own, known, row["method"], place)


def _check_level(
    table: Mapping[str, Any], known: dict[str, Any], name: str, where: str
) -> None:
    levels = {**known["tables"], **known["methods"]}
    refuse_unknown_keys(table, levels[name], where)
    for key, value in table.items():
        if isinstance(value, Mapping) and key in known["tables"]:
            _check_level(value, known, key, f"{where}, `{key}`")
        elif key != "methods":
            check_value(value, levels[name][key], f"{where}, `{key}`")


def refuse_unknown_keys(
    table: Mapping[str, Any], allowed: Iterable[str], where: str
) -> None:
    """Refuse the first key that is not allowed, with the nearest one that is."""
    allowed = list(allowed)
    for key in table:
        if key not in allowed:
            raise RecipeError(
                f"{where}: unknown key `{key}`."
                f"{did_you_mean(key, allowed, form='`{}`')} "
                f"Allowed: {', '.join(allowed)}."
            )


def check_method(method: Any, allowed: Iterable[str], where: str) -> None:
    """Refuse what names no method."""
    allowed = list(allowed)
    if not isinstance(method, str) or method not in allowed:
        shown = f'"{method}"' if isinstance(method, str) else repr(method)
        raise RecipeError(
            f"{where}: unknown method {shown}."
            f"{did_you_mean(method, allowed, form='`{}`')} "
            f"Allowed: {', '.join(allowed)}."
        )
