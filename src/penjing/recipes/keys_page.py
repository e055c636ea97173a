"""The page of all keys of a recipe, `docs/recipe-keys.md`, from `keys.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from penjing.recipes.recipe_text import read_known_keys
from penjing.recipes.recipe_values import value_text
from penjing.recipes.toml_text import toml_value

_HEAD = """\
# The keys of a recipe

Written by `python -m tests.recipes.generated_keys`, from the docstrings of the classes
that recipes are read into. `penjing recipes keys` prints it, `penjing recipes new`
begins a recipe with all of them in comments, and `penjing compress --set KEY=VALUE`
sets one. A key that is left out has its default; None in these texts is one that is
left out.
"""
_TITLES = {
    "recipe": "At the top",
    "training": "[training]",
    "export": "[export]",
    "prune_channels": '[[methods]] with method = "prune_channels"',
    "prune": '[[methods]] with method = "prune"',
    "schedule": "[methods.schedule] of prune",
    "pattern": "[methods.pattern] of prune",
    "cluster": '[[methods]] with method = "cluster"',
    "quantize_aware": '[[methods]] with method = "quantize_aware"',
}


def keys_page() -> str:
    """Write the page as Markdown: for each table and method its keys."""
    known = read_known_keys()
    tables = {**known["tables"], **known["methods"]}
    parts = [_HEAD]
    for name in [*_TITLES, *(name for name in tables if name not in _TITLES)]:
        parts.append(f"\n## `{_TITLES.get(name, name)}`\n")
        if name in known["meanings"]:
            parts.append(f"\n{known['meanings'][name]}\n")
        parts.append("\n| key | what it is | takes | default |\n|---|---|---|---|\n")
        parts += _rows(tables[name])
    return "".join(parts)


def _rows(keys: Mapping[str, Any]) -> Iterator[str]:
    for key, entry in keys.items():
        default = "needed" if entry.get("required") else ""
        if "default" in entry:
            default = f"`{toml_value(entry['default'])}`"
        cells = (f"`{key}`", _meaning(entry), value_text(entry), default)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _meaning(entry: Mapping[str, Any]) -> str:
    """What a key is, what it needs, and which keys it excludes."""
    needs = [f"`{k}` = `{toml_value(v)}`" for k, v in entry.get("needs", {}).items()]
    said = [entry["meaning"]]
    if needs:
        said.append(f"Needs {' and '.join(needs)}.")
    if "excludes" in entry:
        others = ", ".join(f"`{key}`" for key in entry["excludes"])
        said.append(f"Not with {others}.")
    return " ".join(said)
