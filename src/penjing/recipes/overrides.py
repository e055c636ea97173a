"""Single settings in place of a recipe's: `training.epochs=5`."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from penjing.arguments import did_you_mean, quoted
from penjing.errors import RecipeError
from penjing.recipes.recipe_text import (
    KEY_PART,
    MAX_DEPTH,
    check_keys,
    check_values,
    read_known_keys,
)

_SETTING = re.compile(
    rf"\s*({KEY_PART}(?:[ \t]*\.[ \t]*{KEY_PART})*)[ \t]*=(.*)", re.DOTALL
)
# A word without quotes within a list or a table: shells take quotes away.
_BARE_WORD = re.compile(r"(?<=[\[,=])[ \t]*([^\s\"'\[\]{},=]+)[ \t]*(?=[\],}])")
_LONGEST = 10_000
_GONE = object()


def parse_settings(texts: Iterable[str] | None) -> dict[str, Any]:
    """Read settings as they are typed, `KEY=VALUE`, into values by key.

    Values are TOML, and words without quotes are texts, in lists and tables too, as
    shells take quotes away. An empty value is None: it takes the key away.

    Raises:
        RecipeError: If a text is no setting.

    Example:
        >>> parse_settings(["training.epochs=5", "export.quantizations=[int8]"])
        {'training.epochs': 5, 'export.quantizations': ['int8']}
    """
    return dict(map(_parse, texts or ()))


def _parse(text: str) -> tuple[str, Any]:
    found = _SETTING.fullmatch(text)
    if found is None or "\n" in text or len(text) > _LONGEST:
        raise RecipeError(
            f"Cannot read the setting {text[:200]!r}: it has the form KEY=VALUE, such "
            "as training.epochs=5 or methods.prune.schedule.final_sparsity=0.9."
        )
    key, value = found[1], found[2].strip()
    if not value:
        return key, None
    try:
        return key, _value(value)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if value[0] not in "[{\"'":
            return key, value
        raise RecipeError(
            f"Cannot read the value of the setting {text[:200]!r}: it is no TOML: "
            f"{error}."
        ) from error


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if text[0] not in "[{":
            raise
    quoted = _BARE_WORD.sub(_quoted, text)
    return tomllib.loads(f"value = {quoted}")["value"]


def _quoted(found: re.Match[str]) -> str:
    try:
        tomllib.loads(f"value = {found[1]}")
    except tomllib.TOMLDecodeError:
        return json.dumps(found[1])
    return found[1]


def override(
    table: Mapping[str, Any], overrides: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], str]:
    """Give a recipe's table with single settings changed, and what messages call it.

    What was changed is added to its description, which would be wrong without.

    Args:
        table: The table of a recipe; it is left alone.
        overrides: Dotted key -> value. A method is named by its name or its place:
            `methods.prune.l1` or `methods.0.l1`. None takes the key away, so that its
            default holds; a method too.
        where: Name of the recipe for messages.

    Raises:
        RecipeError: If a key is none of a recipe's, or `overrides` is no mapping.
    """
    if not isinstance(overrides, Mapping):
        raise RecipeError(
            "`overrides` must be a mapping from dotted keys to values, such as "
            f'{{"training.epochs": 5}}; got {overrides!r:.200}.'
        )
    check_keys(table, where)
    changed = copy.deepcopy(dict(table))
    told = {}
    for key, value in overrides.items():
        value = _as_in_toml(value)
        holder, last = _find(changed, key, where)
        before = holder[last] if isinstance(last, int) else holder.get(last)
        if value != before:
            told[key] = value
        if value is not None:
            holder[last] = value
        elif isinstance(last, int):
            holder[last] = _GONE  # the methods after it keep their places
        elif before is not None:
            del holder[last]
    if isinstance(changed.get("methods"), list):
        changed["methods"] = [row for row in changed["methods"] if row is not _GONE]
    where = f"{where} with {quoted(overrides, limit=2)} changed"
    check_values(changed, where)
    check_keys(changed, where)
    if told and "description" not in overrides:
        shown = (f"{key} = {_shown(value)}" for key, value in sorted(told.items()))
        was = changed.get("description", "")
        changed["description"] = f"{was} Changed: {', '.join(shown)}.".strip()
    return changed, where


def _as_in_toml(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_in_toml(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_in_toml(item) for item in value]
    return value


def _shown(value: Any) -> str:
    return "default" if value is None else json.dumps(value, default=str)


def _find(table: dict[str, Any], key: Any, where: str) -> tuple[Any, Any]:
    """The table, or list of methods, that a setting stands in, and its key there."""
    parts = _parts(key, where)
    holder: Any = table
    if parts[0] == "methods":
        methods = table.get("methods")
        place = _method(methods, parts, where)
        if len(parts) == 2:
            return methods, place
        holder, parts = methods[place], parts[2:]  # type: ignore[index]
    elif len(parts) == 1:
        _check_top(key, where)
    for part in parts[:-1]:
        holder = holder.setdefault(part, {})
        if not isinstance(holder, dict):
            raise RecipeError(
                f"{where}: `{key}` cannot be set, as `{part}` is {holder!r}, which has "
                f"no keys of its own. Set `{part}` as a whole."
            )
    return holder, parts[-1]


def _parts(key: Any, where: str) -> list[str]:
    """The names in a dotted key, of which some may be quoted."""
    found = _SETTING.fullmatch(f"{key}=") if isinstance(key, str) else None
    parts = re.findall(KEY_PART, found[1]) if found and not found[2] else []
    if not 0 < len(parts) <= MAX_DEPTH:
        raise RecipeError(
            f"{where}: {str(key)[:200]!r} is no key of a recipe, such as "
            "`training.epochs` or `methods.prune.schedule.final_sparsity`."
        )
    return [part[1:-1] if part[0] in "\"'" else part for part in parts]


def _method(methods: Any, parts: list[str], where: str) -> int:
    """The place of the method that a key names, by its name or its place."""
    rows = methods if isinstance(methods, list) else []
    names = [row.get("method") if isinstance(row, dict) else None for row in rows]
    name = parts[1] if len(parts) > 1 else ""
    places = [str(place) for place in range(len(names))]
    if name in places and names[int(name)] is not None:
        return int(name)
    if names.count(name) == 1:
        return names.index(name)
    listed = ", ".join(f"`methods.{known}`" for known in names if known) or "none"
    if name in names:
        raise RecipeError(
            f"{where}: there are {names.count(name)} methods `{name}`. Name one by its "
            f"place, such as `methods.{names.index(name)}`."
        )
    known = read_known_keys()["methods"]
    fix = did_you_mean(name, list(filter(None, names)), form="`methods.{}`")
    if name in known:
        fix = " To add one, write a recipe: `penjing recipes new > my.toml`."
    raise RecipeError(
        f"{where}: `{'.'.join(parts)}` names no method of this recipe.{fix} "
        f"It has: {listed}."
    )


def _check_top(key: str, where: str) -> None:
    """Refuse a key that lacks the name of its table."""
    known = read_known_keys()
    if key in known["tables"]["recipe"]:
        return
    holders = [f"{table}.{key}" for table in ("training", "export")]
    found = [
        holder
        for holder, table in zip(holders, ("training", "export"), strict=True)
        if key in known["tables"][table]
    ]
    found += [
        f"methods.{name}.{key}"
        for name, keys in known["methods"].items()
        if key in keys
    ]
    if found:
        listed = " or ".join(f"`{holder}`" for holder in found)
        raise RecipeError(f"{where}: unknown key `{key}`. Did you mean {listed}?")
