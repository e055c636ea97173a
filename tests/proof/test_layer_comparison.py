"""Tensors of files beside those of the float model: which layer goes wrong first."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing import cli
from penjing.export.litert import export_litert

once = pytest.mark.once


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype("float32")


def spoiled_model():
    """A net whose layer `wide` gives one value a thousand times the others."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    shared = layers.Dense(8, activation="relu", name="dense")
    a = layers.Conv2D(8, 3, padding="same", name="first")(inputs)
    a = layers.BatchNormalization(name="norm")(a)
    a = layers.ReLU(name="act")(a)
    a = layers.GlobalAveragePooling2D(name="pool")(a)
    a = shared(shared(a))
    a = layers.Dense(40, name="wide")(a)
    a = layers.Dense(8, activation="relu", name="dense_1")(a)
    a = layers.Dense(3, name="head")(a)
    model = keras.Model(inputs, a)
    wide = model.get_layer("wide")
    kernel, bias = wide.get_weights()
    bias[5] = 1000
    wide.set_weights([kernel, bias])
    after = model.get_layer("dense_1")
    kernel, bias = after.get_weights()
    kernel[5] = 0
    after.set_weights([kernel, bias])
    return model


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory, x):
    model = spoiled_model()
    path = tmp_path_factory.mktemp("layers") / "spoiled.tflite"
    export_litert(model, path, "int8", representative_data=x, verify=False)
    return model, path


def test_the_layer_that_loses_its_values_is_named_and_its_range_drawn(spoiled, x):
    model, path = spoiled
    report = penjing.compare_layers(model, path, x, samples=16)
    assert report.samples == 16
    assert report.first_bad.layer == "wide" == report.worst[0].layer
    assert report.first_bad.operator == "FULLY_CONNECTED"
    assert report.first_bad.maximum > 900 and report.first_bad.high > 900
    assert report.first_bad.scale == pytest.approx(1000 / 255, rel=0.05)
    assert report.first_bad.decibels < 0 < 30 < report.tensors[0].decibels
    assert len(report.worst) == 3
    text = str(report)
    assert "The first bad tensor is of `wide` (FULLY_CONNECTED)" in text
    assert "|=-" in report.first_bad.drawing
    assert penjing.LayerComparison.from_dict(report.to_dict()) == report


def test_calls_of_a_shared_layer_are_no_other_layer(spoiled, x):
    model, path = spoiled
    rows = penjing.compare_layers(model, path, x, samples=4).tensors
    given = [row.layer for row in rows if row.operator == "FULLY_CONNECTED"]
    computed = [r.layer for r in rows if r.operator[0] == "F" and not r.is_weight]
    assert computed == ["dense", "dense", "wide", "dense_1", "head"]
    assert {"dense", "wide", "dense_1", "head"} == set(given)


def test_numbers_are_those_of_their_definition(x, tmp_path):
    """A file of other weights: what differs is known from the two models alone."""
    models = []
    for factor in (1.0, 1.1):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 3))
        hidden = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
        outputs = layers.Dense(2, name="head")(layers.Flatten()(hidden))
        models.append(keras.Model(inputs, outputs))
        kernel, bias = models[-1].get_layer("conv").get_weights()
        models[-1].get_layer("conv").set_weights([factor * kernel, bias + factor])
    plain, changed = models
    path = export_litert(changed, tmp_path / "changed.tflite")
    rows = penjing.compare_layers(plain, path, x[:20], samples=20).tensors
    weight, _, computed = [row for row in rows if row.layer == "conv"]
    wanted, found = (
        keras.Model(m.inputs, m.get_layer("conv").output).predict(x[:20], verbose=0)
        for m in models
    )
    flat, other = (v.reshape(-1, 4).astype("float64") for v in (wanted, found))
    noise = np.median(((flat - other) ** 2).mean(0) / flat.var(0))
    assert computed.decibels == pytest.approx(-10 * np.log10(noise), abs=0.01)
    cosine = (flat * other).sum() / np.sqrt((flat**2).sum() * (other**2).sum())
    assert computed.cosine == pytest.approx(cosine, abs=1e-6)
    assert computed.minimum == pytest.approx(wanted.min(), abs=1e-5)
    assert computed.maximum == pytest.approx(wanted.max(), rel=1e-5)
    ends = np.percentile(wanted, [1, 5, 50, 95, 99])
    assert computed.percentiles == pytest.approx(ends, abs=0.05)
    assert computed.added == pytest.approx(min(noise, 1), rel=0.01)
    assert weight.is_weight and weight.cosine == pytest.approx(1)
    kernel = keras.ops.convert_to_numpy(plain.get_layer("conv").kernel)
    expected = -10 * np.log10(np.mean((0.1 * kernel) ** 2) / np.var(kernel))
    assert weight.decibels == pytest.approx(expected, abs=0.1)


def test_names_are_not_needed(spoiled, x, tmp_path):
    model, path = spoiled
    small = tmp_path / "small.tflite"
    penjing.shrink_litert(path, small)
    whole = penjing.compare_layers(model, path, x, samples=4)
    report = penjing.compare_layers(model, small, x, samples=4)
    assert report.first_bad.layer == "wide"
    assert len(report.tensors) == len(whole.tensors)


def test_a_file_of_trained_ranges_is_compared_with_the_plain_model(x, tmp_path):
    inputs = keras.Input((8, 8, 3))
    a = layers.Conv2D(4, 3, activation="silu", name="first")(inputs)
    a = layers.Dense(5, name="head")(layers.Flatten()(a))
    model = keras.Model(inputs, a)
    trained = penjing.quantize_aware(model, activations="int8", calibration_data=x)
    path = penjing.export_litert(trained, tmp_path / "m.tflite", "int8")
    report = penjing.compare_layers(trained, path, x, samples=8)
    computed = [r for r in report.tensors if not r.is_weight and r.layer == "head"]
    assert computed[-1].dtype == "int8" and computed[-1].decibels > 20
    assert "head" in {row.layer for row in report.tensors if row.is_weight}
    assert report.first_bad is None


@once
@pytest.mark.parametrize("mode", [None, "dynamic", "float16", "int4_weight_only"])
def test_files_of_floats_are_compared_too(mode, spoiled, x, tmp_path):
    model, _ = spoiled
    path = export_litert(model, tmp_path / "m.tflite", mode, verify=False)
    rows = penjing.compare_layers(model, path, x, samples=4).tensors
    lowest = min(row.decibels for row in rows)
    assert lowest > {None: 100, "dynamic": 10, "float16": 30}.get(mode, 5)
    weights = [row for row in rows if row.is_weight and row.operator == "CONV_2D"]
    assert weights and weights[0].layer == "first"


def test_another_networks_file_is_refused(spoiled, x):
    _, path = spoiled
    other = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten()])
    with pytest.raises(penjing.DataError, match="another network"):
        penjing.compare_layers(other, path, x)
    two = keras.Sequential([keras.Input((5,)), layers.Dense(2)])
    with pytest.raises(penjing.DataError, match="the file that was made of this model"):
        penjing.compare_layers(two, path, np.zeros((4, 5), "float32"))


@once
def test_the_command_draws_the_first_bad_range(spoiled, x, tmp_path, capsys):
    model, path = spoiled
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", x[:8])
    given = ["inspect", path, "--against", tmp_path / "m.keras"]
    assert cli.main([*map(str, given)]) == 2
    assert "--data" in capsys.readouterr().err
    data = ["--data", tmp_path / "x.npy"]
    assert cli.main([*map(str, [*given, *data])]) == 0
    said = capsys.readouterr().out
    assert "The first bad tensor is of `wide`" in said
    assert "|=--" in said
    assert cli.main([*map(str, [*given, *data]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["first_bad"]["layer"] == "wide"
