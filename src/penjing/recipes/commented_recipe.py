"""A recipe to begin with: the settings of a packaged one, and all others in comments.

What is commented out loads when its line is uncommented, so keys that need others, or
exclude them, are only told of. Methods that the recipe does not have come as blocks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from penjing.errors import RecipeError
from penjing.recipes.recipe_text import read_known_keys
from penjing.recipes.recipe_values import value_text
from penjing.recipes.toml_text import toml_value

_HEAD = """\
# A recipe of penjing, with the settings of the recipe "{base}".
#
#   penjing compress model.keras --data data.npz --out out --recipe my.toml
#
# Lines such as `#epochs = 8` are settings that were left out, at their defaults or with
# an example: take the `#` away to set one. Blocks of lines with `##` are methods that
# this recipe does not have: take the `##` of the whole block away to add one.
# What is said of None holds where a setting is left out.
"""
_WIDTH = 88
# Methods in the order in which a recipe has them.
_ORDER = ("prune_channels", "one_shot", "prune", "cluster", "quantize_aware")


def commented_recipe(table: Mapping[str, Any], base: str, name: str = "mine") -> str:
    """Write a recipe of which all keys are said, from the table of another, `base`.

    It loads as it is, and with any one of its commented settings. A RecipeError refuses
    methods without a name, or one twice.
    """
    known = read_known_keys()
    _check_methods(table.get("methods", []), base)
    lines = [*_HEAD.format(base=base).splitlines(), ""]
    lines += _lines(known["tables"]["recipe"], {**table, "name": name}, tables=False)
    for part in ("training", "export"):
        lines += ["", *_comment(known["meanings"][part]), f"[{part}]"]
        keys = known["tables"][part]
        if any(row.get("activations") for row in table.get("methods", [])):
            # It does not go with activations that are trained.
            keys = {name: keys[name] for name in keys if name != "float_layers"}
        lines += _lines(keys, table.get(part, {}))
    lines += _methods(table.get("methods", []), known)
    return "\n".join(lines) + "\n"


def _check_methods(rows: Any, base: str) -> None:
    names = [
        row.get("method") if isinstance(row, Mapping) else None
        for row in (rows if isinstance(rows, list) else [rows])
    ]
    if not all(name in _ORDER for name in names):
        raise RecipeError(
            f"{base} has a method without a name. Each table [[methods]] needs the key "
            f"`method`, one of {', '.join(_ORDER)}."
        )
    twice = [name for name in _ORDER if names.count(name) > 1]
    if twice:
        raise RecipeError(
            f"{base} has the method `{twice[0]}` {names.count(twice[0])} times, and a "
            "model takes each once. Keep one of them."
        )


def _methods(rows: list[dict[str, Any]], known: dict[str, Any]) -> Iterator[str]:
    """The methods of a recipe, and blocks of the others, in an order that is taken."""
    waiting = [name for name in _ORDER if name not in {row["method"] for row in rows}]
    for row in rows:
        place = _ORDER.index(row["method"])
        for name in [name for name in waiting if _ORDER.index(name) < place]:
            waiting.remove(name)
            yield from _block(name, known)
        yield ""
        yield from _method(row["method"], row, known)
    for name in waiting:
        yield from _block(name, known)


def _block(name: str, known: dict[str, Any]) -> Iterator[str]:
    """A method that is commented out, with the keys that it needs."""
    keys = known["methods"][name]
    row = {key: entry["example"] for key, entry in keys.items() if _is_needed(entry)}
    if "schedule" in keys:
        schedule = known["tables"]["schedule"]
        row["schedule"] = {
            key: entry["example"]
            for key, entry in schedule.items()
            if _is_needed(entry)
        }
    if name == "prune_channels":
        row["macs"] = keys["macs"]["example"]
    yield ""
    for line in _method(name, row, known):
        yield f"## {line}".rstrip()


def _is_needed(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("required")) and "example" in entry


def _method(name: str, row: Mapping[str, Any], known: dict[str, Any]) -> Iterator[str]:
    yield from _comment(known["meanings"][name])
    yield "[[methods]]"
    yield f"method = {toml_value(name)}"
    yield from _lines(known["methods"][name], row)
    if "schedule" in known["methods"][name]:
        yield ""
        yield from _comment(known["meanings"]["schedule"])
        yield "[methods.schedule]"
        yield from _lines(known["tables"]["schedule"], row.get("schedule", {}))


def _lines(
    keys: Mapping[str, Any], row: Mapping[str, Any], *, tables: bool = True
) -> Iterator[str]:
    """Each key with its meaning; those that are not set are commented out."""
    for key, entry in keys.items():
        if key == "schedule" or (not tables and "table" in entry["takes"]):
            continue
        yield from _comment(f"{entry['meaning']} ({_about(entry)})")
        if key in row:
            yield f"{key} = {toml_value(row[key])}"
        elif "table" in entry:
            first, *others = _kinds(read_known_keys()["tables"][entry["table"]])
            yield from _comment(f"In place of it: {', or '.join(others)}.")
            yield f"#{key} = {first}"
        elif obstacle := _obstacle(entry, keys, row):
            yield from _comment(f"`{key}` is left out: {obstacle}.")
        else:
            yield f"#{key} = {toml_value(entry['example'])}"


def _kinds(keys: Mapping[str, Any]) -> Iterator[str]:
    """A table of each kind, with the keys that it needs."""
    for kind in keys["kind"]["choices"]:
        own = {
            key: entry["example"]
            for key, entry in keys.items()
            if _is_needed(entry) and entry.get("needs") == {"kind": kind}
        }
        yield toml_value({"kind": kind, **own})


def _about(entry: Mapping[str, Any]) -> str:
    """What a key takes, and its default."""
    if "default" not in entry:
        return value_text(entry)
    return f"{value_text(entry)}; default: {toml_value(entry['default'])}"


def _obstacle(
    entry: Mapping[str, Any], keys: Mapping[str, Any], row: Mapping[str, Any]
) -> str:
    """Why a key is not taken beside the others of a row; empty where it is."""
    others = [f"`{key}`" for key in entry.get("excludes", ()) if key in row]
    if others:
        return f"it does not go with {others[0]}"
    for key, needed in entry.get("needs", {}).items():
        value = row.get(key, keys[key].get("default"))
        if value != needed and not (_is_number(needed) and value and value >= needed):
            least = "at least " if _is_number(needed) else ""
            return f"it needs `{key}` to be {least}{toml_value(needed)}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_on_hyphens=False,
        break_long_words=False,
    )
