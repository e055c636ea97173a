"""`penjing report` and `penjing compare`, on reports that were made by hand."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from PIL import Image
from tests.report.example_report import (
    file_row,
    make_regression,
    make_report,
    make_searched,
)
from tests.runtime.tflm.micro_files import pruned
from tests.specializing.graphs import Graph

from penjing.cli import main
from penjing.errors import CompressionError, FileFormatError
from penjing.packing.packing import pack
from penjing.report.comparison.compare_page import render_comparison
from penjing.report.comparison.finished_files import compare_finished
from penjing.report.documents import write_json
from penjing.report.pages import render_html
from penjing.report.score_rows import ScoreRow
from penjing.tflite.operators import Operator

pytestmark = pytest.mark.once


def run_folder(path, report):
    path.mkdir()
    write_json(report, path / "report.json")
    return path


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def runs(tmp_path):
    small = make_report(
        files=(file_row("baseline.h5", "", 78_000), file_row("model.tflite", "", 3000))
    )
    return run_folder(tmp_path / "a", make_searched()), run_folder(
        tmp_path / "b", small
    )


def test_the_page_of_a_run_is_drawn_again(runs, capsys):
    code, printed, _ = run(capsys, "report", runs[0])
    assert code == 0 and "Scores of every model" in printed
    assert (runs[0] / "report.html").read_text("utf-8") == render_html(make_searched())


def test_the_report_is_printed_as_json_without_a_page(runs, capsys):
    code, printed, _ = run(
        capsys, "report", runs[0] / "report.json", "--no-page", "--json"
    )
    assert code == 0 and json.loads(printed)["front"][0]["name"] == "0000"
    assert not (runs[0] / "report.html").exists()


def damaged(report, **changes):
    return {**report.to_dict(), **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Cannot read the report"),
        (json.dumps({"schema_version": 1}), "not a report of penjing"),
        (json.dumps(damaged(make_report(), result="none")), "no sizes of 'none'"),
        (
            json.dumps(damaged(make_report(), scores=[{"metrics": {"a": "<b>"}}])),
            "not a report of penjing",
        ),
        (
            json.dumps(
                damaged(
                    make_report(),
                    scores=[
                        {
                            "name": "a",
                            "kind": "",
                            "runtime": "x",
                            "metrics": {"a": "<b>"},
                        }
                    ],
                )
            ),
            "not a report of penjing",
        ),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, capsys, content, message):
    (tmp_path / "report.json").write_text(content)
    code, _, errors = run(capsys, "report", tmp_path)
    assert code == 1 and message in " ".join(errors.split())
    assert not (tmp_path / "report.html").exists()


def test_a_folder_without_a_finished_run_is_refused(tmp_path, capsys):
    code, _, errors = run(capsys, "report", tmp_path)
    assert code == 1 and "no run of penjing has finished there" in " ".join(
        errors.split()
    )


def test_runs_are_compared_in_a_table_and_on_a_page(runs, tmp_path, capsys):
    page = tmp_path / "both.html"
    code, printed, _ = run(capsys, "compare", *runs, "--out", page)
    assert code == 0 and "5,999" in printed and "2,999" in printed
    text = page.read_text("utf-8")
    assert "2 files compared" in text and 'id="chart-compare"' in text
    assert run(capsys, "compare", *runs, "--out", page)[0] == 0  # it is our own page


def test_a_page_of_others_is_not_written_over(runs, tmp_path, capsys):
    page = tmp_path / "mine.html"
    page.write_text("mine")
    code, _, errors = run(capsys, "compare", *runs, "--out", page)
    assert code == 1 and "--overwrite" in errors and page.read_text() == "mine"
    assert run(capsys, "compare", *runs, "--out", page, "--overwrite")[0] == 0


def test_a_comparison_is_json_for_programs(runs, tmp_path, capsys):
    code, printed, _ = run(
        capsys, "compare", *runs, "--out", tmp_path / "both.html", "--json"
    )
    table = json.loads(printed)
    assert code == 0 and table["metric"] == "accuracy"
    assert [row["gzip"] for row in table["files"]] == [5999, 2999]
    assert table["files"][0]["control"]["accuracy"] == 0.9101
    assert table["files"][1]["control"] == {}


def test_files_are_scored_on_data_that_is_given(tmp_path, capsys):
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 4)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    for name, sign in (("right", 1.0), ("wrong", -1.0)):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, name="a")])
        model.layers[0].kernel.assign(np.float32([[sign], [0], [0], [0]]))
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"])
        model.save(tmp_path / f"{name}.keras")
    files = [tmp_path / f"{name}.keras" for name in ("right", "wrong")]
    code, printed, errors = run(
        capsys,
        "compare",
        *files,
        "--data",
        tmp_path / "data.npz",
        "--out",
        tmp_path / "c.html",
        "--json",
    )
    assert code == 0, errors
    rows = json.loads(printed)["files"]
    scores = [next(v for k, v in row["metrics"].items() if "acc" in k) for row in rows]
    assert scores[0] > scores[1]


def test_outputs_of_a_file_have_the_names_of_the_labels(tmp_path, capsys):
    net = Graph()
    x = net.tensor([1, 4], free=True)
    outputs = [net.tensor([1, 4], free=True) for _ in range(2)]
    for output in outputs:
        net.add(Operator.RELU, [x], output)
    file = tmp_path / "m.tflite"
    file.write_bytes(net.content([x], outputs))
    eye, classes = np.eye(4, dtype="float32"), np.arange(4)
    arrays = {"x": eye, "y": classes}
    parts = {
        f"{axis}_{part}{name}": arrays[axis]
        for part in ("train", "test")
        for axis, name in (("x", ""), ("y", "_kind"), ("y", "_age"))
    }
    np.savez(tmp_path / "d.npz", **parts)
    options = ["--data", tmp_path / "d.npz", "--json"]
    code, _, errors = run(capsys, "evaluate", file, *options)
    assert code == 1 and "(--output-name)" in errors
    options += ["--output-name", "age", "--output-name", "kind"]
    code, printed, errors = run(capsys, "evaluate", file, *options)
    assert code == 0, errors
    assert json.loads(printed) == {"age_accuracy": 1.0, "kind_accuracy": 1.0}
    other = tmp_path / "n.tflite"
    other.write_bytes(file.read_bytes())
    page = ["--out", tmp_path / "c.html"]
    code, printed, errors = run(capsys, "compare", file, other, *options, *page)
    assert code == 0, errors
    assert json.loads(printed)["files"][0]["metrics"]["age_accuracy"] == 1.0


def test_a_packed_file_is_evaluated(tmp_path, capsys):
    (tmp_path / "packed.tflite").write_bytes(pack(pruned()).content)
    x, y = np.zeros((2, 64), "float32"), np.array([0, 1])
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    options = ["--data", tmp_path / "d.npz", "--json"]
    code, printed, errors = run(
        capsys, "evaluate", tmp_path / "packed.tflite", *options
    )
    assert code == 0, errors
    assert 0 <= json.loads(printed)["accuracy"] <= 0.5


@pytest.mark.parametrize(
    ("command", "suffix"),
    [("evaluate", ".keras"), ("compare", ".tflite"), ("sensitivity", ".keras")],
)
def test_photos_of_other_classes_than_the_model_has_are_refused(
    tmp_path, capsys, command, suffix
):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            image = Image.fromarray(np.full((2, 2), 9 * number, "uint8"))
            image.save(tmp_path / "photos" / name / f"{number}.png")
    layers = [keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(3)]
    file = tmp_path / f"m{suffix}"
    if suffix == ".keras":
        keras.Sequential(layers).save(file)
    else:
        net = Graph()
        x, y = net.tensor([1, 2, 2]), net.tensor([1, 4])
        net.add(Operator.RESHAPE, [x, net.constant([1, 4], "i4")], y)
        file.write_bytes(net.content([x], [y]))
    files = [file]
    if command == "compare":
        files += [file.with_name(f"n{suffix}")]
        files[1].write_bytes(file.read_bytes())
    out = ["--out", tmp_path / "out.html"] if command != "evaluate" else []
    code, _, errors = run(capsys, command, *files, "--data", tmp_path / "photos", *out)
    assert code == 1 and re.search("has 2 classes .* the model [34] outputs", errors)


def test_scores_that_cannot_be_compared_are_said(tmp_path):
    first = run_folder(tmp_path / "a", make_report())
    other = run_folder(tmp_path / "b", make_regression())
    (tmp_path / "c.tflite").write_bytes(b"12345678")
    found = compare_finished([first, other, tmp_path / "c.tflite"])
    assert "Nobody scored" in found.notes[0] and "c.tflite" in found.notes[0]
    assert found.notes[1] == "The scores are by different metrics."
    assert found.score(found.files[1]) is None and found.best == (str(first),)
    assert "Before you compare" in render_comparison(found)


def test_worse_is_worse_and_what_is_beaten_is_not_best(tmp_path):
    better = run_folder(tmp_path / "a", make_regression(after=40.0))
    worse = run_folder(tmp_path / "b", make_regression(after=50.0))
    found = compare_finished([better, worse])
    assert found.best == (str(better),)
    assert found.change(found.files[1], found.score(found.files[0])) == "worse"
    assert '<span class="is-worse">+10.0000 worse' in render_comparison(found)


def test_scores_on_other_data_are_not_compared(tmp_path):
    data = dataclasses.replace(make_report().data, name="others.npz")
    first = run_folder(tmp_path / "a", make_regression(after=40.0))
    other = run_folder(tmp_path / "b", make_regression(after=50.0, data=data))
    found = compare_finished([first, other])
    assert found.best == (str(first), str(other))
    assert "different test data (data.npz, 9 test samples; others" in found.notes[0]
    assert "+10.0000" not in render_comparison(found)


def test_the_metric_of_the_runs_is_the_one_compared(tmp_path):
    scores = [
        ScoreRow(name=n, kind="", runtime="keras", metrics={"accuracy": a, "auc": b})
        for n, a, b in (("baseline", 0.9, 0.7), ("model.tflite", 0.9, 0.6))
    ]
    budget = dataclasses.replace(make_searched().budget, metric="auc")
    report = make_searched(scores=tuple(scores), budget=budget)
    found = compare_finished([run_folder(tmp_path / name, report) for name in "ab"])
    assert found.metric == "auc"
    assert '<span class="is-worse">-0.1000 worse' in render_comparison(found)


def test_other_samples_of_the_same_data_are_other_data(tmp_path):
    data = make_report().data
    splits = [f"20 %, chosen by the seed {n}, are the test part" for n in (0, 1)]
    reports = [
        make_regression(data=dataclasses.replace(data, notes=(note,)))
        for note in splits
    ]
    folders = [run_folder(tmp_path / f"{n}", r) for n, r in enumerate(reports)]
    assert "of different test data" in compare_finished(folders).notes[0]
    noted = dataclasses.replace(data, notes=(splits[0], "epoch 7 was the best"))
    again = run_folder(tmp_path / "again", make_regression(data=noted))
    assert not compare_finished([folders[0], again]).notes


def test_files_that_are_scored_now_are_measured_now(tmp_path):
    folders = [run_folder(tmp_path / name, make_regression()) for name in "ab"]
    for folder in folders:
        (folder / "model.tflite").write_bytes(b"1234")
    found = compare_finished(folders, score=lambda file: {"mae": 1.0}, data="d.npz")
    assert [row.raw for row in found.files] == [4, 4]


def test_pages_and_node_data_are_not_written_over_what_is_read(runs, tmp_path, capsys):
    mine = runs[0] / "report.html"
    mine.write_text("mine")
    code, _, errors = run(capsys, "report", runs[0])
    assert code == 1 and "--no-page" in errors and mine.read_text() == "mine"
    mine.unlink()
    assert run(capsys, "report", runs[0])[0] == 0
    assert run(capsys, "report", runs[0])[0] == 0  # it is our own page
    page = tmp_path / "a.tflite"
    page.write_bytes(b"1234")
    other = tmp_path / "b.tflite"
    other.write_bytes(b"1234")
    code, _, errors = run(capsys, "compare", page, other, "--out", page, "--overwrite")
    assert (
        code == 1 and "it is read for that" in errors and page.read_bytes() == b"1234"
    )


@pytest.mark.parametrize("names", [(), ("a",), ("a", "a")])
def test_less_than_two_files_are_no_comparison(tmp_path, names):
    run_folder(tmp_path / "a", make_report())
    with pytest.raises(ValueError, match="two files or folders|given twice"):
        compare_finished([tmp_path / name for name in names])


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"1234")
    with pytest.raises(FileFormatError, match=r"unknown suffix '.onnx'. Allowed"):
        compare_finished([file, file.with_name("b.tflite")])
    with pytest.raises(CompressionError):
        compare_finished([tmp_path / "none.tflite", tmp_path / "no.tflite"])


def test_names_of_files_do_not_become_code(tmp_path):
    name = "<img src=x onerror=alert(1)>"
    folders = [run_folder(tmp_path / (name + end), make_report()) for end in "ab"]
    page = render_comparison(compare_finished(folders))
    assert "<img" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
