"""Tables as TOML, as recipes have them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from penjing.files import utf8_text


def to_toml(table: dict[str, Any]) -> str:
    """Write a table as TOML; tables in it get sections of their own.

    Example:
        >>> print(to_toml({"a": [1, 2], "b": {"c": "x"}}), end="")
        a = [1, 2]
        <BLANKLINE>
        [b]
        c = "x"
    """
    return "".join(_lines(table, ""))


def _lines(table: dict[str, Any], prefix: str) -> Iterable[str]:
    for key, value in table.items():
        if not _is_section(value):
            yield f"{toml_key(key)} = {toml_value(value)}\n"
    for key, value in table.items():
        name = f"{prefix}{toml_key(key)}"
        if isinstance(value, dict):
            yield f"\n[{name}]\n"
            yield from _lines(value, f"{name}.")
        elif _is_section(value):
            for row in value:
                yield f"\n[[{name}]]\n"
                yield from _lines(row, f"{name}.")


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    )


def toml_key(key: str) -> str:
    """A key, with quotes where it needs them."""
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isalnum() and bare.isascii() else toml_value(key)


def toml_value(value: Any) -> str:
    """A value on one line: numbers, texts, lists, and tables in braces."""
    if isinstance(value, Mapping):
        items = (f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(utf8_text(value), ensure_ascii=False).replace(
            "\x7f", "\\u007f"
        )
    return json.dumps(value)
