"""Tables in the terminal: kinds of columns, and how cells are written."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Column, Table

from penjing.report.fitting_table import FittingTable


def new_table(title: str, *columns: Column, caption: str | None = None) -> Table:
    """Begin a table with title and caption on the left."""
    table = FittingTable(*columns, title=escape(title), title_justify="left")
    table.caption, table.caption_justify = caption, "left"
    return table


def names(header: str) -> Column:
    """A column of names: where there are several words, they may stand in lines."""
    return Column(header, style="bold", overflow="fold")


def numbers(header: str) -> Column:
    """A column of numbers."""
    return Column(escape(header), justify="right", no_wrap=True)


def notes(header: str) -> Column:
    """A column of sentences, less bright."""
    return Column(header, style="dim", overflow="fold")


def shape_text(shape: Sequence[int]) -> str:
    """A shape as cells show it.

    Example:
        >>> shape_text((3, 4)), shape_text(())
        ('3x4', 'scalar')
    """
    return "x".join(map(str, shape)) or "scalar"


def number_text(value: float | None, form: str = ",") -> str:
    """A number by a format, empty where there is none.

    Example:
        >>> number_text(1234), number_text(0.5, ".1%"), number_text(None)
        ('1,234', '50.0%', '')
    """
    return "" if value is None else f"{value:{form}}"
