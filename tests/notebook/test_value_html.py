"""What notebooks show of every report: its fields, escaped, without any script."""

import dataclasses
import html
import inspect
import re

import pytest

import penjing
from penjing import public_names
from penjing.json_values import JsonValue
from penjing.measurement.latency_report import LatencyConditions, summarize_rounds
from penjing.notebook.value_html import value_html

pytestmark = pytest.mark.once
HOSTILE = "</td><script>alert(1)</script>"
REPORTS = [
    value
    for name in public_names.__all__
    if inspect.isclass(value := getattr(penjing, name))
    and dataclasses.is_dataclass(value)
    and name.endswith(
        (*("Report", "Explanation", "Comparison", "Table", "Inspection", "Size"),)
    )
]


def text_of(shown):
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", shown)).split())


def test_every_report_has_something_to_show():
    assert len(REPORTS) >= 14
    for report in REPORTS:
        assert issubclass(report, JsonValue) and callable(report._repr_html_)


def weights(name="dense/kernel"):
    row = penjing.WeightRow(
        path=name, shape=(10, 20), zeros=150, distinct=5, status="compressed"
    )
    return penjing.SparsityReport(rows=(row,))


def test_rows_are_a_table():
    shown = weights()._repr_html_()
    text = text_of(shown)
    assert text.startswith("Sparsity report")
    assert "dense/kernel" in text and "10x20" in text and "150" in text
    assert "reason" not in text, "nobody has one"


def test_texts_are_escaped():
    shown = weights(HOSTILE)._repr_html_()
    assert "<script" not in shown and HOSTILE in text_of(shown)


def test_single_values_and_values_within_are_shown():
    size = penjing.Size(raw=12_345, zip=1, gzip=2, zstd=3, brotli=4, xz=5)
    assert "raw 12,345" in text_of(size._repr_html_())
    conditions = LatencyConditions(
        runtime="LiteRT", processor="P", threads=1, rounds=2, warm_up=1
    )
    rounds = {"a.tflite": [[1.0], [1.1]], "b.tflite": [[2.0], [2.1]]}
    report = summarize_rounds(conditions, rounds, sizes=dict.fromkeys(rounds, 7))
    text = text_of(report._repr_html_())
    assert str(conditions) in text and "b.tflite" in text


@dataclasses.dataclass(frozen=True)
class Many:
    rows: tuple
    ready: bool = True
    summary: str = "It is <fine>."


def test_long_tables_say_what_is_left():
    text = text_of(value_html(Many(rows=weights().rows * 250)))
    assert "rows (the first 200, 50 more)" in text
    assert "It is <fine>." in text and "ready yes" in text
