"""Tables of text, as reports print them."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], *columns: str) -> str:
    """Draw cells in aligned columns, those of the first row being the headings.

    `columns` has for each column the side on which its cells stand, and its least
    width: `"<18"` for texts, two spaces from what is before, `">9"` for numbers. No
    line has spaces at its end.

    Example:
        >>> print(text_table([("layer", "zeros"), ("a/kernel", "7")], "<", ">8"))
        layer       zeros
        a/kernel        7
    """
    widths = [
        max(int(column[1:] or 0), *map(len, cells))
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    gaps = [" " if column[0] == ">" else "  " for column in columns]
    lines = [
        "".join(
            f"{gap}{cell:{column[0]}{width}}"
            for gap, cell, column, width in zip(gaps, row, columns, widths, strict=True)
        )
        for row in rows
    ]
    return "\n".join(line[len(gaps[0]) :].rstrip() for line in lines)
