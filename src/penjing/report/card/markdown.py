"""Pieces of Markdown of which no text can break out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from penjing.recipes.toml_text import to_toml

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def plain(text: object) -> str:
    r"""A text as it is: no markup in it counts.

    Example:
        >>> plain("a|b <i>*c*</i>")
        'a\\|b &lt;i&gt;\\*c\\*&lt;/i&gt;'
    """
    words = " ".join(str(text).split())
    return _SPECIAL.sub(r"\\\1", escape(words, quote=False))


def code(text: str) -> str:
    """A name in the line, such as that of a file."""
    words = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{words}`"


def block(text: str, language: str) -> str:
    """Lines of code, whatever stands in them."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; headings that begin with ">" stand above numbers."""
    sides = ["---:" if heading[:1] == ">" else "---" for heading in headings]
    lines = [[heading.removeprefix(">") for heading in headings], sides, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {line}" for line in lines)


def front_matter(values: Mapping[str, Any]) -> str:
    """The head of a card: YAML, of which JSON's texts and lists are a part."""
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---"])


def toml(recipe: Mapping[str, Any]) -> str:
    """A recipe as it is written in files."""
    return block(to_toml(_known(recipe)), "toml")


def _known(value: Any) -> Any:
    """The same without values that are not set, and with lists."""
    if isinstance(value, Mapping):
        return {key: _known(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_known(item) for item in value if item is not None]
    return value
