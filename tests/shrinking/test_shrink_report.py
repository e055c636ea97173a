"""A report is a table for people and JSON for programs."""

from __future__ import annotations

import json

import pytest

from penjing.shrinking.shrink_report import ShrinkReport, ShrinkStep

pytestmark = pytest.mark.once

STEPS = (
    ShrinkStep(name="names", raw=1000, gzip=-3, difference=0.0),
    ShrinkStep(name="bias bits", raw=0, gzip=40, difference=0.01, note="6 bits"),
    ShrinkStep(name="dead units", note="no bytes to win"),
)


def report(steps=STEPS):
    return ShrinkReport(
        path="a.tflite",
        raw_before=12_345,
        raw_after=11_345,
        gzip_before=900,
        gzip_after=863,
        steps=steps,
    )


def test_the_table_shows_what_each_step_took_away():
    lines = [line.split() for line in str(report()).splitlines()]
    assert lines == [
        ["a.tflite"],
        ["raw", "gzip"],
        ["before", "12,345", "900"],
        ["names", "-1,000", "3"],
        ["bias", "bits", "0", "-40", "6", "bits"],
        ["dead", "units", "0", "0", "no", "bytes", "to", "win"],
        ["after", "11,345", "863"],
    ]


def test_the_difference_is_that_of_the_last_step_that_was_taken():
    assert report().difference == 0.01
    assert report(STEPS[:1]).difference == 0.0
    assert report(STEPS[2:]).difference is None


def test_json_has_everything():
    content = json.loads(json.dumps(report().to_dict()))
    assert content["raw_after"] == 11_345
    assert content["steps"][1]["note"] == "6 bits"
    assert content["steps"][2]["difference"] is None
