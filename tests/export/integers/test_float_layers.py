"""Layers that stay in float within a file of integers: named, and found."""

import re

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.export.conversion_config import ConversionConfig
from penjing.export.integers.float_layers import chosen_floats
from penjing.export.litert import export_litert
from penjing.export.verification import output_error
from penjing.runtime.tflm import has_tflm
from penjing.tflite.modes import mode_named

once = pytest.mark.once


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def spoiled():
    """A net in which `encoder/wide` gives one value a thousand times the others.

    It is 1,000, nothing reads it, and it takes the whole range.
    """
    keras.utils.set_random_seed(1)
    encoder = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(8, activation="relu", name="dense"),
            layers.Dense(40, name="wide"),
        ],
        name="encoder",
    )
    inputs = keras.Input((8, 8, 3))
    a = layers.Conv2D(8, 3, padding="same", name="first")(inputs)
    a = layers.ReLU(name="act")(a)
    a = layers.GlobalAveragePooling2D(name="pool")(a)
    a = encoder(a)
    a = layers.Dense(8, activation="relu", name="after")(a)
    a = layers.Dense(3, name="head")(a)
    model = keras.Model(inputs, a, name="net")
    wide, after = encoder.get_layer("wide"), model.get_layer("after")
    kernel, bias = wide.get_weights()
    bias[5] = 1000
    wide.set_weights([kernel, bias])
    kernel, bias = after.get_weights()
    kernel[5] = 0
    after.set_weights([kernel, bias])
    return model


def types(model, path, x):
    """Types of what the layers of a file compute."""
    rows = penjing.compare_layers(model, path, x, samples=4).tensors
    return {r.layer: r.dtype for r in reversed(rows) if r.operator != "input"}


def error(model, path, x):
    found = penjing.LiteRTModel(path).predict(x)
    return output_error(found, model.predict(x, verbose=0))


def test_a_refused_file_names_the_layers_to_blame_and_what_to_do(spoiled, x, tmp_path):
    with pytest.raises(penjing.ExportError) as caught:
        export_litert(spoiled, tmp_path / "m.tflite", "int8", representative_data=x)
    said = str(caught.value)
    assert re.search(r"comes in at:\n  `encoder/wide` \(FULLY_CONNECTED\): -\d", said)
    assert "90 % of the values in" in said
    assert "float_layers=['encoder/wide', 'after']" in said
    assert not list(tmp_path.iterdir())
    found = re.search(r"float_layers=(\[.*?\])", said)[1]
    path = export_litert(
        spoiled,
        tmp_path / "m.tflite",
        "int8",
        representative_data=x,
        float_layers=re.findall("'([^']+)'", found),
    )
    assert error(spoiled, path, x) < 0.1  # so the advice is true


def test_named_layers_are_float_and_the_others_integers(spoiled, x, tmp_path):
    wide = spoiled.get_layer("encoder").get_layer("wide")
    for entries in (["encoder/wide", "after"], [wide, "aft*"]):
        path = tmp_path / "m.tflite"
        settings = {"representative_data": x, "float_layers": entries}
        export_litert(spoiled, path, "int8", input_type="int8", **settings)
        found = types(spoiled, path, x)
        assert found["encoder/wide"] == "float32"
        assert {found[name] for name in ("first", "pool", "encoder/dense")} == {"int8"}
        assert found["head"] == "int8"
        assert penjing.LiteRTModel(path).inputs[0].dtype == "int8"
        assert error(spoiled, path, x) < 0.1


def test_a_layer_stands_for_those_within_it(spoiled, x, tmp_path):
    path = tmp_path / "m.tflite"
    settings = {"representative_data": x, "float_layers": ["encoder", "after"]}
    export_litert(spoiled, path, "int8x4", **settings)
    found = types(spoiled, path, x)
    assert found["encoder/dense"] == found["encoder/wide"] == "float32"
    assert found["head"] == "int8"


def test_auto_finds_the_fewest(spoiled, x, tmp_path, capsys):
    path = tmp_path / "m.tflite"
    settings = {"representative_data": x, "float_layers": "auto"}
    export_litert(spoiled, path, "int8", **settings)
    said = capsys.readouterr().err
    assert "keeps 2 layers in float: " in said
    assert "'after'" in said and "'encoder/wide'" in said
    assert error(spoiled, path, x) < 0.4
    exact, bound = tmp_path / "exact.tflite", 0.7 * error(spoiled, path, x)
    export_litert(spoiled, exact, "int8", **{**settings, "float_layers": bound})
    assert error(spoiled, exact, x) < error(spoiled, path, x)


def test_nothing_stays_in_float_where_nothing_has_to(x, tmp_path, capsys):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3)])
    plain, auto = tmp_path / "plain.tflite", tmp_path / "auto.tflite"
    export_litert(model, plain, "int8", representative_data=x)
    export_litert(model, auto, "int8", representative_data=x, float_layers="auto")
    assert {"float32"}.isdisjoint(types(model, auto, x).values())
    found = [penjing.LiteRTModel(path).predict(x) for path in (plain, auto)]
    np.testing.assert_array_equal(*found)
    assert "in float" not in capsys.readouterr().err


def test_layers_are_measured_alone(spoiled, x, tmp_path):
    path = tmp_path / "table.json"
    table = penjing.sensitivity(spoiled, x, of="int8", path=path)
    errors = {row.name: row.scores["error"] for row in table.rows}
    assert set(errors) == {
        *("first", "pool", "encoder/dense", "encoder/wide", "after", "head", "(all)")
    }
    assert errors["(all)"] > 1 > errors["first"] > 0
    assert max(errors["encoder/wide"], errors["after"]) > 0.5
    assert max(errors[name] for name in ("first", "pool", "encoder/dense")) < 0.05
    assert table.loss_of(table.rows[0]) == errors["first"]
    assert penjing.SensitivityTable.from_json(path) == table
    with pytest.raises(ValueError, match="int8"):
        penjing.sensitivity(spoiled, x, of="int9")


@once
@pytest.mark.skipif(not has_tflm(), reason="needs the extra micro")
def test_microcontrollers_run_float_layers(spoiled, x, tmp_path):
    path = tmp_path / "m.tflite"
    settings = {"representative_data": x, "float_layers": ["wide", "after"]}
    export_litert(spoiled, path, "int8", runtime="micro", **settings)
    report = penjing.verify(path, "micro", inputs=x, samples=4)
    assert report.python_relative_difference < 0.05
    assert error(spoiled, path, x) < 0.1


def test_what_is_not_there_is_refused_with_names(spoiled, x, tmp_path):
    settings = {"representative_data": x, "float_layers": ["encoder/wid"]}
    match = r"names 'encoder/wid', of which .* Did you mean 'encoder/wide'"
    with pytest.raises(penjing.ExportError, match=match):
        export_litert(spoiled, tmp_path / "m.tflite", "int8", **settings)


@once
def test_values_that_mean_nothing_are_refused(spoiled):
    int8, dynamic = mode_named("int8"), mode_named("dynamic")
    stranger = layers.Dense(2, name="stranger")
    for value, mode, match in (
        ("auto", dynamic, "goes with int8 activations"),
        (0.9, int8, "at most the bound that each file is checked against, 0.4"),
        (0, int8, "above 0"),
        (True, int8, "must be"),
        ([3], int8, "takes layers"),
        ([stranger], int8, "none of `net`"),
    ):
        with pytest.raises(ValueError, match=match):
            chosen_floats(value, spoiled, mode)
    assert chosen_floats((), spoiled, dynamic) == ((), None)
    assert chosen_floats("auto", spoiled, int8) == ((), 0.4)
    assert chosen_floats("wide", spoiled, int8) == (("wide",), None)
    assert ConversionConfig().float_layers == ()


@once
def test_a_bound_that_no_layers_keep_is_no_file(x, tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(8), layers.Dense(3)]
    )
    path = tmp_path / "m.tflite"
    with pytest.raises(penjing.ExportError, match=r"0\.001 is allowed"):
        export_litert(
            model,
            path,
            "int8",
            representative_data=x,
            float_layers=0.001,
            input_type="int8",
            output_type="int8",
        )
    assert not path.exists()
