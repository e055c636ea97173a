"""The page of a search, as text: what it says, in which order, what it leaves out."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
from tests.report.example_report import (
    HOSTILE,
    front_row,
    make_evidence,
    make_report,
    make_searched,
)

from penjing.report.charts import charts_of
from penjing.report.evidence_rows import Evidence
from penjing.report.pages import render_html
from penjing.report.scripts import page_scripts

pytestmark = pytest.mark.once


def without_scripts(page):
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def text_of(report):
    """What a page says, without its style and its code."""
    page = re.sub(r"<style>.*?</style>", "", render_html(report), flags=re.DOTALL)
    found = []
    parser = HTMLParser()
    parser.handle_data = found.append
    parser.feed(without_scripts(page))
    return " ".join(" ".join(found).split())


def test_zeros_are_a_share_of_all_values():
    assert "78.1% zeros" in text_of(make_searched()).replace(" %", "%")


def test_the_page_answers_in_order():
    text = text_of(make_searched())
    places = [
        text.index(part)
        for part in (
            "13.0 × smaller",
            "2.0 × faster",
            "Not within the budget",
            "0.2 points of accuracy more are lost",
            "accuracy, dense, trained as long 0.9101 12 epochs, 5,625 steps",
            "the deployed file is -0.0114 from it, which is worse",
            "What each step bought",
            "Size against accuracy",
            "Scores of every model",
            "Layer by layer",
            "Weights before and after",
            "What changed sides",
            "The confusion that changed",
            "the file is not for microcontrollers",
            "Recipe",
            "Measured on",
            "penjing compress net.keras --data data.npz --out out",
        )
    ]
    assert places == sorted(places)


def test_each_step_says_what_it_bought():
    text = text_of(make_searched())
    assert "pruned and trained 81,000 18,000 -59,999 0.9001 -0.0011 worse" in text
    assert "int8 21,000 5,999 -12,001 0.8987 -0.0014 worse" in text


def test_layers_say_what_became_of_them_and_fold_where_nothing_was_done():
    text = text_of(make_searched(5))
    row = "1,000 → 500 32 → 16 66.6 % 15 8 500 333 100,000 → 50,000 10 us 0.0 %"
    assert f"block_0/conv Conv2D {row}" in text
    assert "it is named in `exclude`" in text
    assert "1 layer without weights: nothing was to be done flatten (Flatten)" in text


def test_columns_that_nobody_measured_are_not_there():
    evidence = make_evidence()
    rows = [dataclasses.replace(row, flash=None) for row in evidence.layers]
    table = re.compile(r"<th class=\"number\">(\w+)</th>")
    shown = render_html(make_searched(evidence=make_evidence(layers=0)))
    assert "Layer by layer" not in shown
    evidence = dataclasses.replace(evidence, layers=tuple(rows))
    headings = table.findall(render_html(make_searched(evidence=evidence)))
    assert "bytes" in headings and "levels" in headings and "flash" not in headings


def test_a_slower_file_is_shown_as_worse():
    times = make_evidence().times
    slow = dataclasses.replace(times[1], speedup=0.5)
    report = make_searched(evidence=make_evidence(times=(times[0], slow)))
    assert "2.0 × slower" in text_of(report)
    assert 'class="ratio is-worse">2.0<small>&times; slower' in render_html(report)


def test_a_speed_within_the_noise_is_no_gain():
    times = make_evidence().times
    unsure = dataclasses.replace(
        times[1], speedup=1.1, speedup_low=0.7, speedup_high=1.2
    )
    report = make_searched(evidence=make_evidence(times=(times[0], unsure)))
    text = text_of(report)
    assert "1.1 × the speed" in text and "0.70 to 1.20, which may be noise" in text
    assert "faster" not in text


def test_a_budget_that_is_met_says_so():
    budget = dataclasses.replace(make_searched().budget, met=True, gaps=())
    text = text_of(make_searched(budget=budget))
    assert "Within the budget" in text and "Not within" not in text


def test_validation_scores_are_drawn_where_not_all_were_tested():
    rows = (front_row(0), front_row(1, test_score=None))
    report = make_searched(front=rows)
    assert "the scores drawn are on validation data" in text_of(report)
    rules = json.dumps(charts_of(report)["front"])
    assert "lowest that is allowed" in rules and "trained as long" not in rules


def test_parts_without_data_are_not_there():
    page = render_html(make_report(evidence=Evidence(), warnings=()))
    for part in ("id=", "<script", "Warnings", "Not on this page", "budget"):
        assert part not in page.partition("</style>")[2], part
    assert re.search(r"default-src &#39;none&#39;[^\"]*unsafe-inline&#39;\"", page)


def test_nothing_of_a_report_becomes_code():
    hostile = dataclasses.replace(
        make_evidence().layers[0], name=HOSTILE, kind=HOSTILE, reason=HOSTILE
    )
    report = make_searched(
        evidence=dataclasses.replace(
            make_evidence(), layers=(hostile,) * 2, left_out={HOSTILE: HOSTILE}
        ),
        front=(front_row(0, name=HOSTILE, recipe=HOSTILE, file=HOSTILE),),
        commands=(HOSTILE,),
        warnings=(HOSTILE,),
    )
    page = render_html(report)
    assert HOSTILE not in page and "<img src=x" not in page
    charts = re.search(
        r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL
    ).group(1)
    assert "<" not in charts
    assert json.loads(charts)["front"]["data"]["values"][0]["name"] == HOSTILE
    assert page.count("<script") == 3


def test_pictures_that_are_none_are_left_out():
    rows = [
        dataclasses.replace(make_evidence().examples[0], picture=picture)
        for picture in ('"><script>', "AAAA", "")
    ]
    masks = [
        dataclasses.replace(make_evidence().weights[0], mask=mask)
        for mask in (("12", "1"), ("x",), ("",), ("1²",))
    ]
    report = make_searched(
        evidence=make_evidence(examples=tuple(rows), weights=tuple(masks))
    )
    assert "<img" not in without_scripts(render_html(report))


def test_numbers_that_json_does_not_have_are_left_out_of_charts():
    rows = (front_row(0, test_score=float("nan")), front_row(1))
    json.dumps(charts_of(make_searched(front=rows)), allow_nan=False)


def test_a_page_allows_no_code_but_its_own():
    page = render_html(make_searched())
    policy = re.search(r'Security-Policy" content="([^"]*)"', page).group(1)
    assert "default-src &#39;none&#39;" in policy and "unsafe-eval" not in policy
    scripts = policy.partition("script-src")[2]
    assert scripts.count("sha256-") == 2 and "unsafe" not in scripts
    assert not re.search(r"https?:|url\(|@import", without_scripts(page))


def test_no_script_could_end_within_itself():
    for code in page_scripts(charts=True, tables=True).codes:
        assert "</script" not in code.lower() and "<!--" not in code


def test_the_charts_are_drawn_by_the_vega_that_is_pinned():
    converter = pytest.importorskip("vl_convert")
    assert len(page_scripts(charts=True, tables=True).codes) == 2
    pinned = page_scripts(charts=True, tables=True).codes[0]
    assert pinned == converter.javascript_bundle(vl_version="6.4")


@pytest.mark.parametrize("layers", [3, 40])
def test_every_chart_is_vega_lite(layers):
    converter = pytest.importorskip("vl_convert")
    charts = charts_of(make_searched(layers))
    assert set(charts) == {"staircase", "front", "layers"}
    for chart in charts.values():
        assert converter.vegalite_to_vega(chart, vl_version="6.4")["marks"]
