"""LiteRT.js in Node and in a browser, next to LiteRT in Python."""

import os
import shutil
import signal

import keras
import numpy as np
import pytest
from tests.web.wasm_engines import needs_browser, needs_node

import penjing
from penjing.errors import (
    CompressionError,
    DataError,
    FileFormatError,
)
from penjing.specializing import specialize
from penjing.web.npm_packages import FOLDER_VARIABLE, find_packages
from penjing.web.wasm_session import WasmSession

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file with two inputs and two outputs, of two types."""
    path = tmp_path_factory.mktemp("files") / "model.tflite"
    values = keras.Input((4, 3), batch_size=1, name="values")
    places = keras.Input((4,), batch_size=1, dtype="int32", name="places")
    looked_up = keras.layers.Embedding(5, 3)(places)
    total = keras.layers.Add()([values, looked_up])
    outputs = [keras.layers.Dense(2, name="a")(total), keras.layers.Flatten()(values)]
    penjing.export_litert(keras.Model([values, places], outputs), path)
    return path


@pytest.fixture(scope="module")
def session():
    with WasmSession() as running:
        yield running


def inputs_for(specs):
    rng = np.random.default_rng(0)
    arrays = {
        "values": rng.normal(size=(1, 4, 3)).astype("float32"),
        "places": rng.integers(0, 5, (1, 4)).astype("int32"),
    }
    return [arrays[spec.name] for spec in specs]


def check_outputs(model, path):
    model.feed(inputs_for(model.inputs))
    reference = penjing.LiteRTModel(path)
    expected = dict(
        zip(
            [spec.name for spec in reference.outputs],
            reference.predict(inputs_for(reference.inputs)),
            strict=True,
        )
    )
    found = model.run()
    assert len(found) == 2
    for spec, value in zip(model.outputs, found, strict=True):
        np.testing.assert_allclose(value, expected[spec.name], atol=1e-5)


@needs_node
def test_outputs_in_node_are_those_in_python(session, file):
    model = session.load(file.read_bytes(), "it")
    check_outputs(model, file)
    times = model.time(7)
    assert len(times) == 7
    assert all(0 <= time < 1000 for time in times)
    model.close()
    assert session.runtime.startswith("LiteRT.js 2.5.3 in Node ")


@needs_browser
def test_outputs_in_a_browser_are_those_in_python_with_threads(file):
    with WasmSession("chromium", threads=2) as running:
        check_outputs(running.load(file.read_bytes(), "it"), file)
        assert "2.5.3 in Chrom" in running.runtime


@needs_node
def test_inputs_that_do_not_fit_are_refused(session, file):
    model = session.load(file.read_bytes(), "it")
    fitting = inputs_for(model.inputs)
    for wrong in (fitting[:1], fitting[::-1], [fitting[0], fitting[1].astype("f4")]):
        with pytest.raises(DataError, match="it takes inputs of the shapes and types"):
            model.feed(wrong)


@needs_node
def test_a_damaged_file_is_refused_and_the_next_one_runs(session, file):
    with pytest.raises(FileFormatError, match=r"LiteRT.js cannot run damaged\.tflite"):
        session.load(file.read_bytes()[:300], "damaged.tflite")
    check_outputs(session.load(file.read_bytes(), "it"), file)


@needs_node
def test_free_sizes_are_refused_by_the_runtime_and_fixed_ones_run(session, tmp_path):
    """What `specialize` is for."""
    path = tmp_path / "model.tflite"
    flat = keras.layers.Flatten()
    penjing.export_litert(keras.Sequential([keras.Input((2, 3)), flat]), path)
    x = np.arange(6, dtype="float32").reshape(1, 2, 3)
    free = session.load(path.read_bytes(), "it")
    free.feed([x])
    with pytest.raises(FileFormatError, match=r"does not match expected.*\[-1, 2, 3\]"):
        free.run()
    fixed = session.load(specialize(path.read_bytes()), "it")
    fixed.feed([x])
    np.testing.assert_array_equal(fixed.run()[0], x.reshape(1, 6))


@needs_node
def test_types_that_javascript_lacks_are_named_with_the_fix(session, tmp_path):
    path = tmp_path / "model.tflite"
    model = keras.Sequential([keras.Input((4,), batch_size=1), keras.layers.Dense(2)])
    x = np.linspace(-1, 1, 8, dtype="float32").reshape(2, 4)
    penjing.export_litert(
        *(model, path, "int8"),
        representative_data=x,
        input_type="int8",
        output_type="int8",
    )
    with pytest.raises(FileFormatError, match="INT8.*must be float32, int32 or uint8"):
        session.load(path.read_bytes(), "it")


@needs_node
def test_the_end_of_the_process_is_noticed(file):
    with WasmSession() as running:
        model = running.load(file.read_bytes(), "it")
        os.kill(running._process._process.pid, signal.SIGKILL)
        with pytest.raises(CompressionError, match="ended with exit code -9"):
            model.run()


@needs_node
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "WebAssembly"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_damaged_packages_are_said(tmp_path, monkeypatch, damage, message):
    folder = tmp_path / "packages"
    shutil.copytree(find_packages(), folder)
    for code in (folder / "node_modules/@litertjs/core/wasm").glob("*.wasm"):
        damage(code)
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    with pytest.raises(CompressionError, match=f"does not start: .*{message}") as said:
        WasmSession()
    assert "penjing setup-wasm fetches them anew" in str(said.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "firefox"}, "must be one of .*'node', 'chromium'.*got 'firefox'"),
        ({"threads": 0}, "`threads` must be 1 or more, got 0"),
        ({"threads": 2}, "threads in browsers only, got threads=2"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WasmSession(**arguments)
