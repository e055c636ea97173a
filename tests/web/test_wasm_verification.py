"""Proof in WebAssembly: right files pass with their times, wrong ones never."""

import json

import keras
import numpy as np
import pytest
from tests.sparse.sparse_topologies import (
    build_topology,
    image_samples,
    sparse_unchecked,
)
from tests.web.wasm_engines import needs_browser, needs_node

import penjing
from penjing.cli import main
from penjing.errors import DataError, ExportError, FileFormatError
from penjing.specializing import specialize

pytestmark = pytest.mark.once


def write_pair(folder, name, **sizes):
    """A dense file, free sizes fixed, and the sparse one that nobody checked."""
    model = build_topology(name, **sizes)
    dense, sparse = folder / "dense.tflite", folder / "sparse.tflite"
    penjing.export_litert(model, dense)
    dense.write_bytes(specialize(dense.read_bytes()))
    sparse.write_bytes(sparse_unchecked(dense.read_bytes()))
    return model, dense, sparse


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"), "mobilenet", size=96, width=32)


@needs_node
def test_a_right_file_passes_with_its_times(pair):
    model, dense, sparse = pair
    x = image_samples(model, count=3)
    report = penjing.verify(sparse, twin=dense, inputs=x, rounds=5)
    assert (report.file, report.twin, report.samples) == (str(sparse), str(dense), 3)
    assert 0 < report.difference < 1e-5
    assert 0 < report.python_difference < 1e-5
    outputs = penjing.LiteRTModel(dense).predict(x)
    scale = report.difference / np.abs(outputs).max()
    assert report.relative_difference == pytest.approx(scale, rel=1e-3)
    twin, file = report.latency.files
    assert (twin.path, file.path) == (str(dense), str(sparse))
    assert (twin.bytes, file.bytes) == (dense.stat().st_size, sparse.stat().st_size)
    assert report.ratio == file.speedup > 0
    assert "LiteRT.js 2.5.3 in Node" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["ratio"] == report.ratio


@needs_browser
def test_the_twin_is_made_and_a_browser_asked(pair):
    report = penjing.verify(pair[2], engine="chromium", threads=2, rounds=3, samples=2)
    assert report.twin == "(the same file, dense)"
    assert report.difference < 1e-5
    assert report.latency.conditions.threads == 2
    assert report.latency.files[0].bytes > report.latency.files[1].bytes


@needs_node
@pytest.mark.parametrize("name", ["stride_2_same", "convolution_behind_pooling"])
def test_a_silently_wrong_file_is_caught(tmp_path, name):
    """Python runs it rightly, and LiteRT.js raises nothing."""
    _, dense, sparse = write_pair(tmp_path, name)
    with pytest.raises(ExportError, match="is wrong in LiteRT.js.*its dense twin in"):
        penjing.verify(sparse, rounds=1)
    assert penjing.verify(dense, rounds=1).python_difference < 1e-5


@needs_node
def test_a_twin_of_another_network_is_no_proof(pair, tmp_path):
    other = tmp_path / "other.tflite"
    penjing.export_litert(build_topology("mobilenet", size=96, width=32, seed=1), other)
    with pytest.raises(ExportError, match=r"Is the twin of the same network\?"):
        penjing.verify(pair[2], twin=other, rounds=1)
    penjing.export_litert(build_topology("two_outputs", size=96, width=32), other)
    with pytest.raises(ValueError, match="`twin` must be a file of the same network"):
        penjing.verify(pair[2], twin=other, rounds=1)


@needs_node
def test_a_network_that_is_turned_is_right(tmp_path):
    """What `prepare_for_sparse_inference` makes of strides of 2 with "same"."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(image)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = keras.layers.Conv2D(32, 1, activation="relu", name="zeros")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(10)(x))
    kernel, bias = model.get_layer("zeros").get_weights()
    kernel[np.abs(kernel) < np.quantile(np.abs(kernel), 0.9)] = 0
    model.get_layer("zeros").set_weights([kernel, bias])
    assert penjing.sparse_layout(model).is_turned
    sparse = tmp_path / "sparse.tflite"
    prepared = penjing.prepare_for_sparse_inference(model)
    penjing.export_litert(prepared, sparse, encoding="sparse", runtime="wasm")
    x = image_samples(model)
    report = penjing.verify(sparse, inputs=x, rounds=1)
    assert report.difference < 1e-5
    assert report.python_difference < 1e-5
    outputs = penjing.LiteRTModel(sparse).predict(x)
    np.testing.assert_allclose(outputs, model.predict(x, verbose=0), atol=1e-5)


@needs_node
def test_an_int8_file_differs_from_python_by_rounding_only(tmp_path):
    path = tmp_path / "int8.tflite"
    inputs = keras.Input((8, 8, 3), batch_size=1)
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    penjing.export_litert(model, path, "int8", representative_data=x)
    report = penjing.verify(path, inputs=x, rounds=1)
    assert report.difference == 0
    assert report.python_relative_difference < 0.05


@needs_node
def test_inputs_come_in_any_order_by_name(tmp_path):
    path = tmp_path / "model.tflite"
    a = keras.Input((3,), batch_size=2, name="a")
    b = keras.Input((2,), batch_size=2, name="b")
    outputs = [keras.layers.Dense(2)(a), keras.layers.Dense(3)(b)]
    penjing.export_litert(keras.Model([a, b], outputs), path)
    x = {"b": np.ones((5, 2), "float32"), "a": np.ones((5, 3), "float32")}
    assert penjing.verify(path, inputs=x, samples=9, rounds=1).samples == 4
    assert penjing.verify(path, inputs=[x["a"], x["b"]], rounds=1).samples == 4
    nan = {**x, "a": np.full((5, 3), np.nan)}
    for wrong, message in (
        ([x["b"], x["a"]], r"Input `a` .* \(samples, 3\), got .* \(5, 2\)"),
        ([x["a"]], r"has 2 inputs \['a', 'b'\], got 1 arrays"),
        ([], "got 0 arrays"),
        ({"a": x["a"]}, r"inputs \['a', 'b'\], got a dict with the keys \['a'\]"),
        ({**x, "c": x["a"]}, r"got a dict with the keys \['b', 'a', 'c'\]"),
        ({**x, "a": [[1, 2, 3], [4]]}, "An input is not an array"),
        (nan, "`inputs` hold NaN or infinity"),
    ):
        with pytest.raises(DataError, match=message):
            penjing.verify(path, inputs=wrong)


@needs_node
def test_the_commands_print_what_was_found(pair, capsys):
    _, dense, sparse = map(str, pair)
    assert main(["verify", sparse, "--twin", dense, "--rounds", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] < 1e-5
    assert main(["verify", sparse, "--rounds", "2"]) == 0
    assert "The same outputs on 8 samples" in " ".join(capsys.readouterr().out.split())
    command = ["benchmark", dense, sparse, "--runtime", "wasm", "--rounds", "3"]
    assert main([*command, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["files"][1]["speedup"] > 0


@pytest.mark.parametrize("option", ["--cold", "--profile", "--batch=2"])
def test_what_wasm_cannot_do_is_refused_by_the_command(pair, option, capsys):
    assert main(["benchmark", str(pair[1]), "--runtime", "wasm", option]) == 2
    assert "goes with --runtime litert" in " ".join(capsys.readouterr().err.split())


def test_files_that_the_runtime_cannot_take_are_refused(pair, tmp_path):
    free = tmp_path / "free.tflite"
    penjing.export_litert(build_topology("mobilenet"), free)
    with pytest.raises(FileFormatError, match="leaves its batch.*runtime=.wasm"):
        penjing.verify(free)
    with pytest.raises(FileFormatError, match="is a Keras model"):
        penjing.verify(tmp_path / "model.keras")
