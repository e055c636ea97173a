"""Recipes from and to TOML; a typo is answered with the nearest key."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from penjing.arguments import did_you_mean
from penjing.engine.fractional_schedule import FractionalSchedule
from penjing.engine.schedules import Schedule
from penjing.errors import RecipeError
from penjing.models.selection import Filter
from penjing.numerics.importance import Importance, ImportanceName
from penjing.numerics.patterns import PATTERNS, Pattern
from penjing.pipeline.method_table import RECIPES
from penjing.pipeline.recipe import (
    Recipe,
    check_order,
)
from penjing.recipes.overrides import override
from penjing.recipes.recipe_text import (
    check_method,
    check_values,
    read_recipe,
    refuse_unknown_keys,
)
from penjing.recipes.recipe_text import packaged_recipes as packaged_recipes
from penjing.recipes.toml_text import to_toml

# Type of a setting -> what a recipe can say of it.
_AS_WRITTEN: dict[Any, Any] = {
    Filter: tuple[str, ...] | None,
    ImportanceName | Importance: ImportanceName,
    Schedule: FractionalSchedule,
}
_KINDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def load_recipe(
    name_or_path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Load a recipe by its packaged name or from a TOML file.

    Args:
        name_or_path: A packaged name such as `"default"`, or a path.
        overrides: Settings in place of the recipe's: dotted key -> value, as in TOML. A
            method is named by its name or its place, `"methods.prune.l1"` or
            `"methods.0.l1"`; None takes a key away, so that its default holds.

    Returns:
        The checked recipe.

    Raises:
        RecipeError: If there is no such recipe, or it has an unknown key or an
            impossible value; the message names the nearest allowed one.

    Example:
        >>> load_recipe("article").training.epochs
        2
        >>> load_recipe("article", {"training.epochs": 5}).training.epochs
        5
    """
    table, where = read_recipe(name_or_path)
    if overrides:
        table, where = override(table, overrides, where)
    return recipe_from_dict(table, where=where)


def as_recipe(
    recipe: str | os.PathLike[str] | Recipe,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Give a recipe as it is, or load it by name or path; see `load_recipe`.

    One whose methods no model can take, in this order, is a RecipeError.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, overrides)
    elif overrides:
        where = f"the recipe {recipe.name}"
        table, where = override(recipe.to_dict(), overrides, where)
        recipe = recipe_from_dict(table, where=where)
    check_order(recipe.methods)
    return recipe


def recipe_from_dict(table: dict[str, Any], *, where: str = "the recipe") -> Recipe:
    """Build a recipe from its table; the inverse of `Recipe.to_dict`.

    Args:
        table: Keys and values as in the TOML file.
        where: Name of the source for messages.

    Returns:
        The checked recipe.

    Raises:
        RecipeError: If a key is unknown or missing or a value is impossible.
    """
    if not isinstance(table, dict):
        raise RecipeError(f"{where} must be a table of keys, got {table!r}.")
    check_values(table, where)
    table = dict(table)
    is_missing = "methods" not in table
    methods = table.pop("methods", [])
    if not isinstance(methods, list):
        raise RecipeError(f"{where}: `methods` must be a list: write [[methods]].")
    rows = tuple(
        _method_from_table(row, f"{where}, methods[{index}]")
        for index, row in enumerate(methods)
    )
    recipe = typing.cast(Recipe, _from_table(Recipe, table, where, methods=rows))
    if is_missing:
        raise RecipeError(
            f"{where}: The recipe has no methods. Add a [[methods]] table with "
            'method = "prune" and a schedule; or, above the first table, '
            "`methods = []`, which trains the model on as it is."
        )
    return recipe


def recipe_to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML that `load_recipe` reads back to an equal value."""
    return to_toml(recipe.to_dict())


def _method_from_table(row: Any, where: str) -> Any:
    classes = {config.method: config for config in RECIPES}
    if not isinstance(row, dict) or "method" not in row:
        raise RecipeError(
            f"{where} needs the key `method`. Allowed: {_listed(classes)}."
        )
    row = dict(row)
    method = row.pop("method")
    check_method(method, classes, where)
    return _from_table(classes[method], row, where)


def _from_table(cls: Any, table: Any, where: str, **parsed: Any) -> Any:
    hints = field_hints(cls)
    values = _convert_keys(table, hints, where) | parsed
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise RecipeError(f"{where} needs the key `{field.name}`.")
    return _make(cls, values, where)


def _pattern_from_table(table: Any, where: str) -> Any:
    """The pattern of the kind that a table names; other keys are its fields."""
    values = _convert_keys(table, pattern_hints(), where)
    kind = values.pop("kind", "unstructured")
    fields = {f.name: f.default for f in dataclasses.fields(PATTERNS[kind])}  # type: ignore[arg-type]
    for key, default in fields.items():
        if default is dataclasses.MISSING and key not in values:
            raise RecipeError(f'{where}: The pattern "{kind}" needs the key `{key}`.')
    for key in values:
        if key not in fields:
            raise RecipeError(
                f'{where}: The pattern "{kind}" does not take the key `{key}`.'
            )
    return _make(PATTERNS[kind], values, where)


def pattern_hints() -> dict[str, Any]:
    """The types of all keys of a pattern's table."""
    hints: dict[str, Any] = {"kind": Literal[tuple(PATTERNS)]}
    for pattern in PATTERNS.values():
        hints |= field_hints(pattern)
    return hints


def field_hints(cls: Any) -> dict[str, Any]:
    """The types of a class's fields, in their order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _convert_keys(table: Any, hints: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise RecipeError(f"{where} must be a table of keys, got {table!r}.")
    refuse_unknown_keys(table, hints, where)
    return {k: _convert(v, hints[k], f"{where}, `{k}`") for k, v in table.items()}


def _make(cls: Any, values: dict[str, Any], where: str) -> Any:
    try:
        return cls(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def as_written(hint: Any) -> Any:
    """What a recipe can say of a setting of a type."""
    return _AS_WRITTEN.get(hint, hint)


def _convert(value: Any, hint: Any, where: str) -> Any:
    hint = as_written(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, args, where)
    if origin is typing.Literal:
        if value not in args:
            raise RecipeError(
                f"{where} is {value!r}.{_hint(value, args)} Allowed: {_listed(args)}."
            )
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{where} must be a list, got {value!r}.")
        return tuple(_convert(item, args[0], where) for item in value)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise RecipeError(f"{where} must be a table, got {value!r}.")
        return {k: _convert(v, args[1], f"{where}.{k}") for k, v in value.items()}
    if hint is Pattern:
        return _pattern_from_table(value, where)
    if dataclasses.is_dataclass(hint):
        return _from_table(hint, value, where)
    return _convert_scalar(value, hint, where)


def _convert_union(value: Any, args: tuple[Any, ...], where: str) -> Any:
    choices = [arg for arg in args if arg is not types.NoneType]
    for choice in choices[:-1]:
        origin = typing.get_origin(choice) or choice
        if origin is Literal:
            if isinstance(value, str):
                return _convert(value, choice, where)
        elif isinstance(value, origin):
            return _convert(value, choice, where)
    return _convert(value, choices[-1], where)


def _convert_scalar(value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecipeError(f"{where} must be {_KINDS[kind]}, got {value!r}.")
    return value


def _hint(value: Any, allowed: Iterable[Any]) -> str:
    return did_you_mean(value, allowed, form="`{}`")


def _listed(allowed: Iterable[Any]) -> str:
    return ", ".join(str(item) for item in allowed)
