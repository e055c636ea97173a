import dataclasses
import json

import pytest
from tests.report.example_report import (
    file_row,
    make_regression,
    make_report,
    make_searched,
)

from penjing.errors import FileFormatError
from penjing.report.documents import Report, read_json, write_json
from penjing.report.pages import write_html

pytestmark = pytest.mark.once


def test_json_gives_the_report_back(tmp_path):
    report = make_report()
    path = write_json(report, tmp_path / "report.json")
    assert read_json(path) == report
    table = json.loads(path.read_text())
    assert table["schema_version"] == 1
    assert table["ratio"] == 13.0
    assert table["sparsity"] == 0.75
    assert table["channels"]["rows"][0]["after"] == 16
    assert table["weights"][0] == {
        "path": "dense/kernel",
        "shape": [10, 20],
        "size": 200,
        "zeros": 150,
        "sparsity": 0.75,
        "distinct": 5,
        "status": "compressed",
        "reason": "",
        "methods": ["pruned", "clustered"],
    }


def test_json_gives_a_search_back(tmp_path):
    report = make_searched()
    assert read_json(write_json(report, tmp_path / "report.json")) == report
    rows = (report.front[0], report.staircase[1], report.evidence.weights[0])
    assert [type(row).from_dict(row.to_dict()) for row in rows] == list(rows)
    assert report.control.steps == 5625


def test_a_report_from_before_there_was_a_search_is_read():
    table = make_searched().to_dict()
    added = ("budget", "front", "control", "staircase", "evidence", "commands")
    for name in added:
        del table[name]
    report = Report.from_dict(table)
    assert [getattr(report, name) or None for name in added] == [None] * len(added)
    assert report.ratio == make_searched().ratio


def test_a_report_from_before_distinct_values_were_kept_is_read():
    table = make_report().to_dict()
    for row in table["weights"]:
        del row["distinct"], row["methods"], row["sparsity"]
    first, second = Report.from_dict(table).weights
    assert (first.size, first.zeros, first.distinct, first.methods) == (
        200,
        150,
        None,
        (),
    )
    assert second.reason == "a bias & such"


def test_the_ratio_is_of_the_zipped_files():
    files = (file_row("baseline.h5", "", 900), file_row("model.tflite", "", 60))
    assert make_report(files=files).ratio == 15.0


def test_sparsity_counts_compressed_weights_alone():
    assert make_report().sparsity == 150 / 200
    assert make_report(weights=()).sparsity == 0.0


def test_the_first_metric_is_not_the_loss():
    assert make_report().metric == "accuracy"
    assert make_report(scores=()).metric is None
    assert make_report().score("model.tflite").metrics["loss"] == 0.6
    assert make_report().score("other") is None


def test_a_search_speaks_of_the_metric_that_decided():
    searched = make_searched()
    assert searched.metric == "accuracy"
    budget = dataclasses.replace(searched.budget, metric="loss")
    assert dataclasses.replace(searched, budget=budget).metric == "loss"


def test_scores_are_compared_with_those_of_the_baseline():
    report = make_report()
    assert report.metrics == ("loss", "accuracy")
    assert (report.before, report.after) == (0.9012, 0.8987)
    assert [report.difference(row) for row in report.scores] == ["", "-0.0025 worse"]
    alone = make_report(scores=report.scores[:1])
    assert (alone.before, alone.after) == (0.9012, None)
    nothing = make_report(scores=())
    assert (nothing.metrics, nothing.before, nothing.after) == ((), None, None)


def test_another_schema_version_is_refused():
    table = {**make_report().to_dict(), "schema_version": 99}
    with pytest.raises(FileFormatError, match="version 99; this penjing reads 1"):
        Report.from_dict(table)


@pytest.mark.parametrize("key", ["environment", "files", "title"])
def test_a_report_without_a_part_is_refused(key):
    table = make_report().to_dict()
    del table[key]
    with pytest.raises(FileFormatError, match=f"not a report of penjing.*{key}"):
        Report.from_dict(table)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 1}'])
def test_a_file_that_is_no_report_is_refused(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(FileFormatError):
        read_json(path)


def test_a_missing_report_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="Cannot read the report"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("before", "after", "difference", "change"),
    [
        (43.2, 48.65, "+5.4500 worse", "worse"),
        (43.2, 40.2, "-3.0000", "better"),
        (43.2, 43.2, "+0.0000", "same"),
    ],
)
def test_an_error_that_rises_is_worse(before, after, difference, change):
    report = make_regression(before, after)
    table = report.to_dict()
    assert (report.change, table["change"]) == (change, change)
    assert (table["metric"], table["before"], table["after"]) == ("mae", before, after)
    assert report.difference(report.scores[1]) == difference


def test_each_metric_is_judged_by_its_own_direction():
    report = make_report()
    row = report.scores[1]
    changes = {name: report.change_of_row(row, name) for name in report.metrics}
    assert changes == {"loss": "worse", "accuracy": "worse"}
    better = dataclasses.replace(row, metrics={"loss": 0.4, "accuracy": 0.91})
    assert report.change_of_row(better, "loss") == "better"


def test_the_direction_that_was_measured_counts_more_than_the_name():
    report = make_regression(directions={"mae": "higher"})
    assert report.change == "better"
    assert Report.from_dict(report.to_dict()) == report


def test_the_file_itself_is_compared_with_the_float_file():
    report = make_regression()
    assert report.file_ratio == 4.0 and report.to_dict()["file_ratio"] == 4.0
    assert make_report().file_ratio is None
    assert make_report().to_dict()["file_ratio"] is None


def test_names_that_are_not_utf8_can_be_read_by_any_reader(tmp_path):
    report = make_report(title="net on caf\udce9.npz", warnings=("in \udcff",))
    text = write_json(report, tmp_path / "report.json").read_text("utf-8")
    assert json.loads(text)["title"] == r"net on caf\udce9.npz"
    assert json.loads(text)["warnings"] == [r"in \udcff"]
    page = write_html(report, tmp_path / "report.html").read_text("utf-8")
    assert r"net on caf\udce9.npz" in page
