import io

import pytest
from rich.console import Console

from penjing.report.tables import (
    names,
    new_table,
    notes,
    number_text,
    numbers,
    shape_text,
)

pytestmark = pytest.mark.once


def test_a_table_shows_its_title_its_columns_and_its_caption_as_they_are():
    table = new_table(
        "[red]net[/red]",
        names("layer"),
        numbers("[bold]"),
        notes("why"),
        caption="One.",
    )
    table.add_row("a" * 13 + " b", "12", "because")
    console = Console(file=io.StringIO(), width=36, color_system=None)
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[0] == "[red]net[/red]"
    assert lines[2].split("┃")[1:4] == [" layer         ", " [bold] ", " why     "]
    assert lines[4].split("│")[1:4] == [" aaaaaaaaaaaaa ", "     12 ", " because "]
    assert lines[5].split("│")[1] == " b             "  # long names go on below
    assert lines[-1] == "One."


def test_cells_are_written_alike():
    assert shape_text((3, 4)) == "3x4"
    assert shape_text(()) == "scalar"
    assert number_text(1_234_567) == "1,234,567"
    assert number_text(0.25, ".1%") == "25.0%"
    assert number_text(0) == "0"
    assert number_text(None) == ""
