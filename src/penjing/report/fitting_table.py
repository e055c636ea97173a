"""Tables that fit any terminal: words stay whole, and no cell is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_INDENT = 2
_SIDES = 2  # of a cell: a space each
_GAP = "  "


class FittingTable(Table):
    """A table of texts that is drawn as a list of its rows where it is too wide.

    It is a table as long as the longest word of every column, and all of the columns
    that do not wrap, stand beside each other. The columns before the others get what
    room is left.
    """

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Draw it in the width that there is."""
        columns = [
            [console.render_str(str(cell)) for cell in (column.header, *column.cells)]
            for column in self.columns
        ]
        whole = [max(cell.cell_len for cell in cells) for cells in columns]
        least = [
            size if column.no_wrap else max(_longest_word(cell) for cell in cells)
            for column, cells, size in zip(self.columns, columns, whole, strict=True)
        ]
        room = options.max_width - (_SIDES + 1) * len(columns) - 1 - sum(least)
        if room < 0:
            yield from self._as_list(console, columns, options.max_width)
            return
        for column, size, most in zip(self.columns, least, whole, strict=True):
            more = min(room, most - size)
            column.width, room = size + more, room - more
        yield from super().__rich_console__(console, options)

    def _as_list(
        self, console: Console, columns: list[list[Text]], width: int
    ) -> Iterator[Text]:
        """Each row in lines of its own: its name, then the other cells."""
        yield from _title_lines(self.title, "italic", console, width)
        for number, row in enumerate(self.rows, 1):
            style = row.style or ""
            first, *others = (cells[number].copy() for cells in columns)
            first.stylize("bold")
            yield _line(first, style)
            pairs = [
                Text.assemble(f"{cells[0].plain} ", cell)
                for cells, cell in zip(columns[1:], others, strict=True)
                if cell.plain
            ]
            for line in _packed(pairs, width - _INDENT):
                yield _line(Text.assemble(" " * _INDENT, line), style)
        yield from _title_lines(self.caption, "dim", console, width)


def print_table(table: Table, console: Console) -> None:
    """Print a table; in a list of rows, lines that are too long for it stay whole."""
    console.print(table, crop=False)


def print_sentence(text: str, console: Console, style: str = "") -> None:
    """Print a sentence in lines of whole words, however long one of them is.

    So paths can be copied, where a line is broken in the middle of them otherwise.
    """
    for line in filled(console.render_str(text, highlight=False), console.width):
        console.print(line, style=style, soft_wrap=True)


def _title_lines(
    title: object, style: str, console: Console, width: int
) -> Iterator[Text]:
    if isinstance(title, str):
        text = console.render_str(title, highlight=False)
        yield from (_line(line, style) for line in filled(text, width))


def _longest_word(cell: Text) -> int:
    return max((len(word) for word in cell.plain.split()), default=0)


def _line(text: Text, style: object) -> Text:
    text.no_wrap, text.overflow = True, "ignore"
    text.stylize_before(str(style))
    return text


def _packed(parts: list[Text], width: int) -> Iterator[Text]:
    """Lines of parts that stand beside each other, and break only where they must."""
    line = Text()
    for part in parts:
        if line and line.cell_len + len(_GAP) + part.cell_len > width:
            yield line
            line = Text()
        *full, last = filled(part, width)
        yield from full
        line = Text.assemble(line, _GAP, last) if line else last
    if line:
        yield line


def filled(text: Text, width: int) -> list[Text]:
    """Lines of whole words, which rich would cut where they are too long."""
    room = max(width, 1)
    starts, start = [], 0
    for word in re.finditer(r"\S+", text.plain):
        if cell_len(text.plain[start : word.end()]) > room and word.start() > start:
            start = word.start()
            starts.append(start)
    lines = list(text.divide(starts))
    for line in lines:
        line.rstrip()
    return lines
