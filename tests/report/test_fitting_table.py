"""Tables at any width: words are whole, nothing is cut, paths can be copied."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from penjing.report.fitting_table import print_sentence, print_table
from penjing.report.tables import names, new_table, notes, numbers

pytestmark = pytest.mark.once
PATH = "/data/experiments/2026-11/" + "a" * 50 + "/model.tflite"


def printed(table, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(table, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def sizes(rows, title="Files", caption=None):
    table = new_table(
        title, names("file"), numbers("bytes"), notes("note"), caption=caption
    )
    for row in rows:
        table.add_row(*row)
    return table


def test_rows_become_lines_where_columns_do_not_fit():
    rows = [(PATH, "1,234", "as it was before"), ("b", "7", "")]
    lines = printed(sizes(rows, caption="All of them."), 30)
    assert lines == [
        "Files",
        PATH,
        "  bytes 1,234",
        "  note as it was before",
        "b",
        "  bytes 7",
        "All of them.",
    ]


def test_a_wide_terminal_has_columns():
    lines = printed(sizes([("b", "7", "as it was before")]), 60)
    assert any("│ b    │     7 │ as it was before │" in line for line in lines)


def test_notes_wrap_before_names_do():
    lines = printed(sizes([("dense/kernel", "7", "one two three four five")]), 40)
    assert "│ dense/kernel │     7 │ one two three │" in lines


words = st.text("abc/", min_size=1, max_size=30)
sentences = st.lists(words, max_size=5).map(" ".join)


@given(st.lists(st.tuples(words, words, sentences), max_size=4), st.integers(8, 90))
def test_every_word_is_there_as_it_is(rows, width):
    found = " ".join(printed(sizes(rows), width)).replace("│", " ").split()
    for row in rows:
        for word in " ".join(row).split():
            assert word in found


def test_sentences_break_between_words_alone():
    console = Console(file=io.StringIO(), width=20, color_system=None)
    print_sentence(f"[green]It is written[/green] to {PATH} now.", console)
    lines = console.file.getvalue().splitlines()
    assert [line.rstrip() for line in lines] == ["It is written to", PATH, "now."]
