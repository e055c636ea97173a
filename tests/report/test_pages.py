import re
from html.parser import HTMLParser

import pytest
from tests.report.example_report import file_row, make_report

from penjing.report.pages import render_html, write_html

pytestmark = pytest.mark.once
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Checker(HTMLParser):
    """Collects what is wrong with the nesting, and all tags, links and text."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.tags, self.text = [], [], set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.wrong += [name for name, _ in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def parsed(report):
    checker = Checker()
    checker.feed(render_html(report))
    checker.close()
    assert checker.wrong == []
    assert checker.open == []
    return checker


def test_the_page_is_well_nested_and_needs_no_network():
    page = render_html(make_report())
    assert not re.search(r"https?:|url\(|@import|<script", page)
    parsed(make_report())


def test_the_page_says_the_numbers():
    text = " ".join(" ".join(parsed(make_report()).text).split())
    for part in (
        "13.0 × smaller",
        "zipped 6.00 kB",
        "accuracy deployed 0.8987 LiteRT, -0.0025",
        "0.9012",
        "0.8987",
        "-0.0025",
        "78,000",
        "5,996",
        "75.0 %",
        "dense/kernel pruned, clustered 10×20 200 150 75.0 % 5",
        "skipped: a bias & such",
        "10×20",
        "methods[0].schedule.final_sparsity",
        "dynamic, int8",
        "A & B <processor>",
        "file data.npz",
        "stays whole: it is an output & such",
        "4,000,000 multiply-accumulates before, 800,000 after",
    ):
        assert part in text, part


def test_everything_is_escaped():
    page = render_html(make_report())
    assert "<b>net</b>" not in page
    assert "&lt;b&gt;net&lt;/b&gt;" in page


def test_the_curve_spans_its_box():
    points = re.search(r'points="([^"]+)"', render_html(make_report())).group(1)
    assert points == "0.00,2.00 50.00,38.00 100.00,26.00"


def test_the_facts_are_those_of_the_methods_that_ran():
    whole = render_html(make_report())
    assert "multiply-accumulates left</span><b>20.0 %" in whole
    assert "zeros in compressed weights" in whole
    cut = render_html(make_report(weights=()))
    assert "multiply-accumulates left" in cut
    assert "zeros in compressed weights" not in cut
    pruned = render_html(make_report(channels=None))
    assert "multiply-accumulates left" not in pruned
    assert "zeros in compressed weights" in pruned


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": ()},
        {"channels": None},
        {"history": ()},
        {"history": ({"loss": 0.5},) * 2},
        {"weights": ()},
        {"files": (file_row("baseline.h5", "", 60), file_row("model.tflite", "", 90))},
    ],
)
def test_missing_parts_leave_a_whole_page(changes):
    parsed(make_report(**changes))


def test_it_is_written(tmp_path):
    path = write_html(make_report(), tmp_path / "report.html")
    assert path.read_text("utf-8") == render_html(make_report())
