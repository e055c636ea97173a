import dataclasses
import re
from html.parser import HTMLParser

import pytest
from tests.report.example_report import file_row, make_regression, make_report

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
        "accuracy deployed 0.8987 LiteRT, -0.0025 worse",
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


def test_what_got_worse_is_shown_as_worse():
    page = render_html(make_regression())
    assert '<b class="is-worse">48.6500</b> <i>LiteRT, +5.4500 worse</i>' in page
    assert re.search(r'class="number is-worse"[^>]*>\+5.4500 worse<', page)
    page = render_html(make_regression(after=40.2))
    assert '<b class="is-better">40.2000</b> <i>LiteRT, -3.0000</i>' in page


def test_the_file_itself_is_compared_as_large_as_the_zipped_one():
    text = " ".join(" ".join(parsed(make_regression()).text).split())
    assert "13.1 × smaller zipped baseline.h5 against zipped model.tflite" in text
    assert "4.0 × smaller baseline.tflite against model.tflite, the files as" in text
    larger = make_regression(reference="model.tflite", result="baseline.tflite")
    assert re.search(
        r'class="ratio is-worse">4.0<small>&times; larger', render_html(larger)
    )


def test_skipped_vectors_share_a_line_with_their_names_folded():
    kernel, bias = make_report().weights
    page = render_html(make_report(weights=(kernel, bias, bias)))
    assert "<summary>2 vectors</summary><span>dense/bias</span>" in page
    assert page.count("skipped: a bias") == 1


def test_warnings_and_how_data_was_read_are_on_the_page():
    data = dataclasses.replace(make_report().data, notes=("20 % are the test <part>",))
    page = render_html(make_report(warnings=("look <here>",), data=data))
    assert "<h2>Warnings</h2>" in page and "<li>look &lt;here&gt;</li>" in page
    assert "20 % are the test &lt;part&gt;" in page
    assert "<h2>Warnings</h2>" not in render_html(make_report())


def test_every_cell_of_a_table_that_folds_is_labelled():
    page = render_html(make_regression())
    for table in re.findall(r'<table class="[^"]*folds".*?</table>', page, re.DOTALL):
        body = table.partition("<tbody>")[2]
        cells = re.findall(r"<td(?P<attributes>[^>]*)>", body)
        assert cells
        for attributes in cells:
            known = "data-label" in attributes or 'class="name"' in attributes
            assert known or 'class="wide"' in attributes, attributes
    assert page.count('folds"') == page.count("<table")
