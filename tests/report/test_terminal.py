import io

import pytest
from rich.console import Console
from tests.report.example_report import make_regression, make_report

from penjing.report.documents import WeightRow
from penjing.report.terminal import print_report

pytestmark = pytest.mark.once


def printed(report, width=120):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_report(report, console)
    return console.file.getvalue()


def line_with(text, *parts):
    return [line for line in text.splitlines() if all(part in line for part in parts)]


def test_the_tables_say_sizes_accuracies_and_the_ratio():
    text = printed(make_report())
    assert line_with(text, "model.tflite", "6,050", "5,999", "5,998", "5,996")
    assert line_with(text, "model.tflite", "LiteRT", "0.8987", "-0.0025")
    assert line_with(text, "baseline", "Keras", "0.9012")
    assert "13.0 times smaller: baseline.h5 zipped 78,000 bytes" in text
    assert "accuracy: 0.9012 before, 0.8987 in the file" in text
    assert line_with(text, "dense/bias", "a bias & such")
    assert line_with(text, "dense/kernel", "10x20", "150", "75.0%", " 5 ")
    assert line_with(text, "conv", "48", "16")
    assert line_with(text, "head", "10", "it is an output & such")
    assert (
        "5.0 times fewer multiply-accumulates: 4,000,000 before, 800,000 after" in text
    )


def test_no_scores_leave_a_ratio():
    assert "13.0 times smaller" in printed(make_report(scores=()))


def test_many_weights_are_cut_and_counted():
    row = make_report().weights[0]
    rows = [
        WeightRow(path=f"w{i}", shape=row.shape, zeros=0, status="compressed")
        for i in range(45)
    ]
    text = printed(make_report(weights=tuple(rows)))
    assert "5 more are in report.html" in text
    assert "w44" not in text


def test_names_are_not_read_as_markup():
    report = make_report(weights=(make_report().weights[0],))
    row = WeightRow(path="[red]x[/red]", shape=(), zeros=0, status="compressed")
    text = printed(make_report(weights=(*report.weights, row)))
    assert "[red]x[/red]" in text


def colored(report):
    console = Console(
        file=io.StringIO(),
        width=120,
        force_terminal=True,
        color_system="standard",
        no_color=False,
    )
    print_report(report, console)
    return console.file.getvalue()


def test_what_got_worse_is_red_and_says_so():
    text = printed(make_regression())
    assert line_with(text, "model.tflite", "48.6500", "+5.4500 worse")
    assert "48.6500 in the file that is deployed, +5.4500 worse." in text
    shown = colored(make_regression())
    assert "31m+5.4500 worse" in shown and "32m+5.4500" not in shown
    assert "32m-3.0000" in colored(make_regression(after=40.2))


def test_the_file_itself_stands_beside_the_zipped_one():
    text = printed(make_regression())
    assert "13.1 times smaller: baseline.h5 zipped 78,000 bytes" in text
    assert (
        "4.0 times smaller: baseline.tflite as it is 24,000 bytes, "
        "model.tflite as it is 6,000 bytes." in text
    )


def test_what_got_larger_is_not_called_smaller():
    report = make_regression(reference="model.tflite", result="baseline.tflite")
    assert "4.0 times larger: model.tflite zipped" in printed(report)


def test_skipped_vectors_share_a_line():
    kernel, bias = make_report().weights
    biases = [
        WeightRow(
            path=f"d{i}/bias", shape=(20,), zeros=1, status="skipped", reason="a bias"
        )
        for i in range(50)
    ]
    text = printed(make_report(weights=(kernel, bias, *biases)))
    assert line_with(text, "50 vectors", "50", "a bias")
    assert "d7/bias" not in text and "more are in" not in text


def test_warnings_are_printed():
    assert "Warning: look [here]" in printed(make_report(warnings=("look [here]",)))
