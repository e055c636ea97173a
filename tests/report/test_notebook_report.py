import dataclasses
import re
from html.parser import HTMLParser

import pytest
from tests.report.example_report import (
    HOSTILE,
    front_row,
    make_regression,
    make_report,
    make_searched,
)

pytestmark = pytest.mark.once


def text_of(html):
    found = []
    parser = HTMLParser()
    parser.handle_data = found.append
    parser.feed(html)
    return " ".join(" ".join(found).split())


def test_a_notebook_shows_what_the_page_says_shorter():
    html = make_searched()._repr_html_()
    text = text_of(html)
    for part in (
        "13.0 times smaller: zipped baseline.h5 against zipped model.tflite",
        "accuracy 0.9012 -> 0.8987 (-0.0025 worse)",
        "accuracy 0.9101: dense, trained as long",
        "Not within the budget: 0.2 points of accuracy more are lost",
        "pruned and trained 18.0 kB 0.9001",
        "0001 90 % zeros, 23 levels 4.90 kB 0.8840 0.8820",
        "model.tflite compressed 6.05 kB 6.00 kB 0.8987",
    ):
        assert part in text, part
    assert len(html) < 20_000
    assert not re.search(r"<script|https?:|<[^>]*src=|url\(", html)


def test_it_is_whole_without_a_search_and_says_what_got_worse():
    text = text_of(make_report(scores=())._repr_html_())
    assert "What each step bought" not in text and "13.0 times smaller" in text
    html = make_regression()._repr_html_()
    assert "color:#b3541e" in html and "+5.4500 worse" in html
    larger = make_regression(reference="model.tflite", result="baseline.tflite")
    assert "times larger" in text_of(larger._repr_html_())


def test_nothing_in_a_notebook_becomes_code():
    hostile = dataclasses.replace(
        make_searched(front=(front_row(0, name=HOSTILE, description=HOSTILE),)),
        title=HOSTILE,
        warnings=(HOSTILE,),
    )
    html = hostile._repr_html_()
    assert "<img" not in html and "</script" not in html
    assert text_of(html).count(HOSTILE) == 4
