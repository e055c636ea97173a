import pytest

from penjing.text_table import text_table

pytestmark = pytest.mark.once


def test_texts_stand_left_and_numbers_right_as_wide_as_their_longest_cell():
    rows = [
        ("weight", "shape", "zeros", "why"),
        ("a/kernel", "(2,)", "1,234,567", ""),
        ("b", "(2, 3)", "7", "a bias"),
    ]
    assert text_table(rows, "<", "<8", ">5", "<").splitlines() == [
        "weight    shape        zeros  why",
        "a/kernel  (2,)     1,234,567",
        "b         (2, 3)           7  a bias",
    ]


def test_the_headings_alone_have_the_least_widths():
    assert text_table([("", "50%")], "<5", ">8") == "           50%"


@pytest.mark.parametrize("columns", [("<",), ("<", ">", ">")])
def test_columns_and_cells_are_as_many(columns):
    with pytest.raises(ValueError, match="zip"):
        text_table([("a", "b")], *columns)
