"""`sparsity_report`: what it says of models in training, stripped and plain."""

import dataclasses
import json

import keras
import pytest
from keras import layers
from tests.engine.pruning_cases import advanced, three_layers

import penjing
from penjing import OneShot
from penjing.measurement.weight_report import SparsityReport, WeightRow, total_sparsity


def test_the_report_lists_every_weight_with_status_and_reason():
    model = three_layers()
    model.layers[2].trainable = False
    pruned = advanced(penjing.prune(model, OneShot(0.75), exclude="second"))
    report = penjing.sparsity_report(pruned)
    vector = "a bias, a scale or another vector"
    frozen = "frozen: it does not train"
    assert [dataclasses.astuple(row) for row in report.rows] == [
        ("net/first/kernel", (8, 20), 120, 41, "compressed", "", ("pruned",)),
        ("net/first/bias", (20,), 20, 1, "skipped", vector, ()),
        ("net/second/kernel", (20, 12), 0, 240, "skipped", "excluded", ()),
        ("net/second/bias", (12,), 12, 1, "skipped", "excluded", ()),
        ("net/head/kernel", (12, 2), 0, 24, "skipped", frozen, ()),
        ("net/head/bias", (2,), 2, 1, "skipped", frozen, ()),
    ]
    assert report.sparsity == 0.75
    assert (report.rows[0].size, report.rows[0].sparsity) == (160, 0.75)


def test_the_report_of_a_plain_model_says_what_could_be_compressed():
    model = three_layers()
    status = {row.path: row.status for row in penjing.sparsity_report(model).rows}
    assert status["net/first/kernel"] == "compressible"
    assert status["net/first/bias"] == "skipped"
    assert penjing.sparsity_report(model).sparsity == 0
    stripped = penjing.strip(advanced(penjing.prune(model, OneShot(0.5))))
    report = penjing.sparsity_report(stripped)
    assert [row.zeros for row in report.rows[::2]] == [80, 120, 12]
    assert report.sparsity == 0.5


def test_the_report_of_compressed_layers_shows_weights_and_no_engine_state():
    first = penjing.prune_layer(layers.Dense(4, name="first"), OneShot(0.5))
    second = penjing.prune_layer(layers.Dense(4, name="second"), OneShot(0.75))
    model = keras.Sequential([layers.Input((8,)), first, second, layers.Dense(2)])
    advanced(model)
    rows = penjing.sparsity_report(model).rows
    assert len(rows) == 6
    zeros = [row.zeros for row in rows if row.status == "compressed"]
    assert zeros == [16, 12]


def test_the_report_is_a_table_and_json():
    report = penjing.sparsity_report(
        advanced(penjing.prune(three_layers(), OneShot(0.75)))
    )
    lines = str(report).splitlines()
    assert len(lines) == 8
    assert lines[1].split() == [
        "net/first/kernel",
        "(8,",
        "20)",
        "120",
        "75.00%",
        "41",
        "compressed:",
        "pruned",
    ]
    assert lines[-1] == "sparsity of what is not skipped: 75.00%"
    data = json.loads(json.dumps(report.to_dict()))
    assert data["sparsity"] == 0.75
    assert data["rows"][0]["shape"] == [8, 20]
    assert data["rows"][0]["zeros"] == 120


@pytest.mark.parametrize("model", [None, "net", keras.Sequential([layers.Dense(2)])])
def test_what_is_no_built_model_has_no_report(model):
    with pytest.raises(ValueError, match="must be a built Keras model"):
        penjing.sparsity_report(model)


def test_skipped_weights_do_not_count_in_the_whole():
    kept = WeightRow(path="a", shape=(2, 5), zeros=5, status="compressed")
    small = WeightRow(path="b", shape=(), zeros=1, status="compressible")
    skipped = WeightRow(path="c", shape=(90,), zeros=90, status="skipped")
    assert total_sparsity([kept, small, skipped]) == 6 / 11
    assert total_sparsity([skipped]) == 0.0
    empty = WeightRow(path="d", shape=(0, 3), zeros=0, status="compressed")
    assert (empty.size, empty.sparsity) == (0, 0.0)


def test_a_row_survives_json_and_one_without_distinct_values_prints():
    row = WeightRow(path="a", shape=(2,), zeros=1, status="skipped", reason="a bias")
    report = SparsityReport(rows=(row,))
    assert SparsityReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    assert str(report).splitlines()[1].split() == (
        ["a", "(2,)", "1", "50.00%", "skipped:", "a", "bias"]
    )
