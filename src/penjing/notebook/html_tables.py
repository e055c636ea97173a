"""What notebooks show of a value: headline, tables and notes, without any script.

It knows nothing of reports, so that these can be shown by it. Colors are those of the
notebook; notebooks give no page of their own to a result, so styles are written into
each element.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape

_WORSE, _BETTER = "#b3541e", "#2f8f57"
_TABLE = "border-collapse:collapse;margin:.4em 0 1em"
_CELL = "padding:.25em .9em .25em 0;text-align:{side};border-bottom:1px solid #8884"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A text in a table; `change` is `"better"`, `"worse"` or nothing of these."""

    text: str
    change: str = ""
    is_strong: bool = False


@dataclasses.dataclass(frozen=True)
class NotebookTable:
    """A table: headings, of which those that begin with ">" stand above numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def notebook_html(
    title: str,
    lines: Sequence[Cell],
    tables: Sequence[NotebookTable],
    notes: Sequence[str] = (),
) -> str:
    """Write a piece of HTML that stands alone; all texts are escaped.

    Args:
        title: What it is about.
        lines: The outcome, a line each.
        tables: The tables.
        notes: Warnings, below.

    Returns:
        One element.
    """
    parts = [f"<h3 style='margin:.2em 0'>{escape(title)}</h3>"]
    parts += [f"<div>{_text(line)}</div>" for line in lines]
    parts += [_table(table) for table in tables if table.rows]
    parts += [
        f"<div style='color:{_WORSE};overflow-wrap:anywhere'>{escape(note)}</div>"
        for note in notes
    ]
    return f"<div style='max-width:64rem'>{''.join(parts)}</div>"


def _text(cell: Cell) -> str:
    color = {"worse": _WORSE, "better": _BETTER}.get(cell.change)
    style = f"color:{color};" if color else ""
    style += "font-weight:600" if cell.is_strong else ""
    text = escape(cell.text)
    return f"<span style='{style}'>{text}</span>" if style else text


def _table(table: NotebookTable) -> str:
    sides = ["right" if text[:1] == ">" else "left" for text in table.headings]
    head = "".join(
        f"<th style='{_CELL.format(side=side)};font-weight:500'>"
        f"{escape(text.removeprefix('>'))}</th>"
        for side, text in zip(sides, table.headings, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td style='{_CELL.format(side=side)}'>{_text(cell)}</td>"
            for side, cell in zip(sides, row, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    title = f"<div style='margin-top:.8em'><b>{escape(table.title)}</b></div>"
    return (
        f"{title}<div style='overflow-x:auto'><table style='{_TABLE}'>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
