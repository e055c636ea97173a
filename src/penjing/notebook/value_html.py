"""A value with fields, as notebooks show it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penjing.notebook.html_tables import Cell, NotebookTable, notebook_html

_MOST_ROWS = 200
_SUMMARIES = ("summary", "totals", "proof")


def value_html(value: Any) -> str:
    """Write a dataclass as a piece of HTML that stands alone; all texts are escaped.

    Single fields are lines of a table; values within it and lists of them have a table
    of their own. What is empty everywhere is left out.
    """
    lines = [Cell(line) for line in _said(value)]
    return notebook_html(_words(type(value).__name__), lines, list(_tables(value)))


def _said(value: Any) -> Iterator[str]:
    """The sentences in which a value sums itself up."""
    for name in _SUMMARIES:
        text = getattr(value, name, ())
        yield from [text] if isinstance(text, str) else text


def _tables(value: Any, title: str = "") -> Iterator[NotebookTable]:
    own, tables = [], []
    for name, item in _fields(value):
        if name in _SUMMARIES:
            continue
        heading = f"{title}, {_words(name)}" if title else _words(name)
        if dataclasses.is_dataclass(item) and type(item).__str__ is object.__str__:
            tables += list(_tables(item, heading))
        elif _is_rows(item):
            tables.append(_rows_table(heading, item))
        elif item not in (None, "", ()):
            own.append((Cell(_words(name)), Cell(_text(name, item))))
    yield NotebookTable(title, ("", ">"), tuple(own))
    yield from tables


def _rows_table(title: str, rows: Sequence[Any]) -> NotebookTable:
    """A table of values of one class: a column for each field that has something."""
    columns = [name for name, _ in _fields(rows[0])]
    cells = [dict(_fields(row)) for row in rows[:_MOST_ROWS]]
    used = [
        name
        for name in columns
        if any(row.get(name) not in (None, "", ()) for row in cells)
    ]
    left = len(rows) - len(cells)
    return NotebookTable(
        f"{title} (the first {len(cells)}, {left:,} more)" if left else title,
        tuple(
            _words(name) if _is_text(name, cells) else f">{_words(name)}"
            for name in used
        ),
        tuple(
            tuple(Cell(_text(name, row.get(name))) for name in used) for row in cells
        ),
    )


def _fields(value: Any) -> list[tuple[str, Any]]:
    names = [field.name for field in dataclasses.fields(value)]
    names += getattr(value, "json_properties", ())
    return [(name, getattr(value, name)) for name in names]


def _is_rows(item: Any) -> bool:
    return (
        isinstance(item, (list, tuple))
        and bool(item)
        and all(dataclasses.is_dataclass(row) for row in item)
    )


def _is_text(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return not any(isinstance(row.get(name), (int, float)) for row in rows)


def _text(name: str, item: Any) -> str:
    """A value as cells show it."""
    if item is None:
        return ""
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    if isinstance(item, float):
        return f"{item:.4g}"
    if isinstance(item, Mapping):
        return ", ".join(f"{key} {_text('', part)}" for key, part in item.items())
    if isinstance(item, (list, tuple)):
        joined = "x" if name == "shape" else ", "
        return joined.join(_text("", part) for part in item)
    if dataclasses.is_dataclass(item) and type(item).__str__ is object.__str__:
        return ", ".join(
            f"{_words(key)} {_text(key, part)}"
            for key, part in _fields(item)
            if part not in (None, "", ())
        )
    return str(item)


def _words(name: str) -> str:
    """A name in words.

    Example:
        >>> _words("SparsityReport"), _words("num_clusters")
        ('Sparsity report', 'num clusters')
    """
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")
    return parts[:1] + parts[1:].lower() if name[:1].isupper() else parts
