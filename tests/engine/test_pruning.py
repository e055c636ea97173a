"""`prune`: what it takes, and what is reported of it."""

import dataclasses
import json

import keras
import pytest
from keras import layers
from tests.engine.pruning_cases import (
    advanced,
    compressed_rows,
    three_layers,
)

import penjing
from penjing import OneShot


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ("second", None, ["second"]),
        (["first", "he*"], None, ["first", "head"]),
        ("*/kernel", "net/second/kernel", ["first", "head"]),
        (None, ["first", "second"], ["head"]),
        ("net/first", None, ["first"]),
        (None, "*e*d", ["first"]),
    ],
)
def test_patterns_match_paths_and_names(include, exclude, chosen):
    pruned = penjing.prune(
        three_layers(), OneShot(0.5), include=include, exclude=exclude
    )
    assert [row.path.split("/")[1] for row in compressed_rows(pruned)] == chosen


@pytest.mark.parametrize("copy", [True, False])
def test_layers_of_the_given_model_are_named_by_themselves(copy):
    model = three_layers()
    pruned = penjing.prune(
        model, OneShot(0.5), include=model.layers, exclude=model.layers[0], copy=copy
    )
    paths = [row.path for row in compressed_rows(pruned)]
    assert paths == ["net/second/kernel", "net/head/kernel"]
    rows = {row.path: row.reason for row in penjing.sparsity_report(pruned).rows}
    assert rows["net/first/kernel"] == "excluded"


def test_a_layer_is_not_mistaken_for_one_of_the_same_name():
    encoder = keras.Sequential(
        [layers.Input((8,)), layers.Dense(4, name="fc")], name="encoder"
    )
    decoder = keras.Sequential(
        [layers.Input((4,)), layers.Dense(2, name="fc")], name="decoder"
    )
    inputs = layers.Input((8,))
    model = keras.Model(inputs, decoder(encoder(inputs)))
    pruned = penjing.prune(model, OneShot(0.5), include=decoder.layers[0])
    assert [row.path for row in compressed_rows(pruned)] == ["decoder/fc/kernel"]
    whole = penjing.prune(model, OneShot(0.5), include=encoder)
    assert [row.path for row in compressed_rows(whole)] == ["encoder/fc/kernel"]


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(penjing.UnsupportedModelError, match="Did you mean 'second'"):
        penjing.prune(three_layers(), OneShot(0.5), include="secnd")
    with pytest.raises(penjing.UnsupportedModelError, match="`exclude` names 'dens'"):
        penjing.prune(three_layers(), OneShot(0.5), exclude="dens")
    with pytest.raises(penjing.UnsupportedModelError, match="matches no weight"):
        penjing.prune(three_layers(), OneShot(0.5), include=layers.Dense(2, name="x"))


def test_a_named_layer_that_cannot_be_pruned_is_refused_with_the_reason():
    model = three_layers()
    model.layers[0].trainable = False
    with pytest.raises(
        penjing.UnsupportedModelError, match="frozen: it does not train"
    ):
        penjing.prune(model, OneShot(0.5), include="first")
    with pytest.raises(penjing.UnsupportedModelError, match="a bias, a scale"):
        penjing.prune(model, OneShot(0.5), include="*/bias")


def test_a_model_without_anything_to_prune_is_refused():
    with pytest.raises(penjing.UnsupportedModelError, match="no weight to compress"):
        penjing.prune(three_layers(), OneShot(0.5), exclude="*")


def test_nested_layers_of_one_name_are_told_apart():
    inputs = layers.Input((8,))
    outputs = layers.Dense(4, name="same")(inputs)
    inner_input = layers.Input((4,))
    inner = keras.Model(
        inner_input, layers.Dense(2, name="same")(inner_input), name="inner"
    )
    model = keras.Model(inputs, inner(outputs))
    pruned = penjing.prune(model, OneShot(0.5), include=["inner/same/kernel"])
    report = penjing.sparsity_report(pruned)
    assert [row.path for row in report.rows if row.status == "compressed"] == [
        "inner/same/kernel"
    ]


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
