"""Runs files on arrays; the arithmetic of quantized tensors is done by hand."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tests.runtime.tflm.micro_files import counting
from tests.specializing.graphs import Graph

from penjing.errors import DataError, FileFormatError
from penjing.export.litert import export_litert
from penjing.file_verification import verify
from penjing.rebuilding.litert_loading import load_litert
from penjing.runtime import interpreter, litert_worker
from penjing.runtime.interpreter import LiteRTModel, TensorSpec
from penjing.runtime.worker_process import WorkerEndError
from penjing.tflite import loading
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once


def two_input_model():
    wide = keras.Input((4,), name="wide")
    ids = keras.Input((3,), dtype="int32", name="ids")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(7, 2)(ids))
    joined = keras.layers.Concatenate()([keras.layers.Dense(5)(wide), embedded])
    return keras.Model(
        [wide, ids], [keras.layers.Dense(2)(joined), keras.layers.Dense(3)(joined)]
    )


@pytest.fixture(scope="module")
def two_inputs(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "two.tflite"
    model = two_input_model()
    export_litert(model, path)
    generator = np.random.default_rng(0)
    data = [
        generator.normal(size=(10, 4)).astype("float32"),
        generator.integers(0, 7, (10, 3)).astype("int32"),
    ]
    return path, data, [np.asarray(value) for value in model(data)]


@pytest.fixture(scope="module")
def integers(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "int8.tflite"
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    data = np.random.default_rng(1).normal(size=(50, 6)).astype("float32")
    export_litert(
        model,
        path,
        "int8",
        representative_data=data,
        input_type="int8",
        output_type="uint8",
    )
    return path, data, np.asarray(model(data))


def test_quantized_values_round_half_to_even_and_clip():
    spec = TensorSpec(name="x", shape=(-1,), dtype="int8", scale=0.5, zero_point=1)
    stored = spec.encode(np.array([0.25, 0.75, -0.25, 1000.0, -1000.0]))
    assert stored.dtype == np.int8
    assert stored.tolist() == [1, 3, 1, 127, -128]
    assert spec.decode(stored).tolist() == [0.0, 1.0, 0.0, 63.0, -64.5]


@pytest.mark.parametrize(
    ("dtype", "scale", "values", "message"),
    [
        ("int8", 0.5, np.array([np.nan]), "holds NaN"),
        ("int32", 0.0, np.array([0.5]), "whole numbers"),
        ("int32", 0.0, np.array([np.inf]), "whole numbers"),
        ("int8", 0.0, np.array([200]), "from -128 to 127, got 200 to 200"),
        ("float32", 0.0, np.array(["a"]), "takes numbers, got an array of type"),
    ],
)
def test_values_that_cannot_be_stored_are_refused(dtype, scale, values, message):
    spec = TensorSpec(name="x", shape=(-1,), dtype=dtype, scale=scale)
    with pytest.raises(DataError, match=message):
        spec.encode(values)


def test_inputs_and_outputs_keep_the_order_of_the_model(two_inputs):
    model = LiteRTModel(two_inputs[0])
    assert [(i.name, i.shape, i.dtype) for i in model.inputs] == [
        ("wide", (-1, 4), "float32"),
        ("ids", (-1, 3), "int32"),
    ]
    assert [(o.name, o.shape) for o in model.outputs] == [
        ("output_0", (-1, 2)),
        ("output_1", (-1, 3)),
    ]


@pytest.mark.parametrize("batch_size", [1, 4, 10, 128])
@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_batches_and_kinds_of_input_agree_with_keras(two_inputs, kind, batch_size):
    path, data, expected = two_inputs
    x = {"ids": data[1], "wide": data[0]} if kind is dict else kind(data)
    actual = LiteRTModel(path, num_threads=2).predict(x, batch_size)
    for got, wanted in zip(actual, expected, strict=True):
        # Two float32 libraries that sum in different orders.
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def short_of_memory(monkeypatch, cause):
    """Let batches of more than four samples fail; gives the list of those tried."""
    tried, run = [], LiteRTModel._run_batch

    def run_few(model, arrays, size):
        tried.append(size)
        if size > 4:
            raise FileFormatError("too much") from cause
        return run(model, arrays, size)

    monkeypatch.setattr(LiteRTModel, "_run_batch", run_few)
    return tried


@pytest.mark.parametrize("cause", [WorkerEndError(-6, None, ""), MemoryError()])
def test_batches_get_smaller_where_memory_is_short(two_inputs, cause, monkeypatch):
    path, data, expected = two_inputs
    tried = short_of_memory(monkeypatch, cause)
    actual = LiteRTModel(path).predict(data)
    assert tried == [10, 5, 2, 2, 2, 2, 2]
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_what_takes_too_long_is_tried_once(two_inputs, monkeypatch):
    tried = short_of_memory(monkeypatch, WorkerEndError(-9, 15.0, ""))
    with pytest.raises(FileFormatError, match="too much"):
        LiteRTModel(two_inputs[0]).predict(two_inputs[1])
    assert tried == [10]


def test_integer_inputs_and_outputs_are_real_values_outside(integers):
    path, data, expected = integers
    model = LiteRTModel(path)
    assert model.inputs[0].dtype == "int8"
    assert model.outputs[0].dtype == "uint8"
    actual = model.predict(data, batch_size=7)
    assert actual.dtype == np.float32
    # Input and output are each off by half a step at most, summed over six inputs.
    steps = model.outputs[0].scale + model.inputs[0].scale * 6
    assert np.abs(actual - expected).max() < steps
    steps = actual / model.outputs[0].scale
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[0], "has 2 inputs .*got one ndarray"),
        (lambda d: [*d, d[0]], "has 2 inputs .*got 3 arrays"),
        (lambda d: {"wide": d[0], "id": d[1]}, "keys .'wide', 'id'"),
        (lambda d: [d[0], d[1][:5]], "same number of samples"),
        (lambda d: [d[0][:0], d[1][:0]], "at least 1"),
        (lambda d: [d[0][:, :2], d[1]], r"shape \(samples, 4\), got .*\(10, 2\)"),
        (lambda d: [d[0][0], d[1]], r"got an array of shape \(4,\)"),
        (lambda d: [d[0], d[1] + 0.5], "whole numbers"),
        (lambda d: [[[1.0], [1.0, 2.0]], d[1]], "not an array"),
    ],
)
def test_data_that_does_not_fit_is_refused(two_inputs, change, message):
    path, data, _ = two_inputs
    with pytest.raises(DataError, match=message):
        LiteRTModel(path).predict(change(data))


def test_a_model_runs_again_after_a_refusal(two_inputs):
    path, data, expected = two_inputs
    model = LiteRTModel(path)
    with pytest.raises(DataError):
        model.predict([data[0], data[1] + 100])  # Outside the vocabulary.
    np.testing.assert_allclose(model.predict(data)[0], expected[0], atol=1e-5)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_a_batch_size_below_one_is_refused(two_inputs, batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be 1 or more"):
        LiteRTModel(two_inputs[0]).predict(two_inputs[1], batch_size)


def test_no_threads_are_refused(two_inputs):
    with pytest.raises(ValueError, match="`num_threads` must be 1 or more"):
        LiteRTModel(two_inputs[0], num_threads=0)


def test_damaged_files_give_one_error(two_inputs, tmp_path):
    content = two_inputs[0].read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "zeros": content[: len(content) // 2] + bytes(len(content) // 2),
        "noise": content[:8] + np.random.default_rng(0).bytes(500),
        "other": b"PK\x03\x04 something else",
        "empty": b"",
    }
    for name, data in damaged.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        with pytest.raises(FileFormatError, match=f"{name}.tflite"):
            LiteRTModel(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"There is no file .*none\.tflite"):
        LiteRTModel(tmp_path / "none.tflite")


def test_files_and_batches_beyond_the_limits_are_refused(two_inputs, monkeypatch):
    path, data, _ = two_inputs
    model = LiteRTModel(path)
    monkeypatch.setattr(interpreter, "MAX_BATCH_BYTES", 100)
    with pytest.raises(DataError, match="Use a smaller `batch_size`"):
        model.predict(data)
    monkeypatch.setattr(loading, "MAX_FILE_BYTES", 100)
    with pytest.raises(FileFormatError, match="has at most 100"):
        LiteRTModel(path)


def test_what_a_recurrent_layer_remembers_ends_with_its_batch(tmp_path):
    graph = Graph()
    x, given = graph.tensor([1, 1, 1]), graph.tensor([1, 1, 1])
    state = graph.tensor([1, 1])
    graph.graph["tensors"][state]["is_variable"] = True
    weights = [graph.constant(value) for value in ([[1.0]], [[0.5]], [0.0])]
    options = Record("SequenceRNNOptions", fused_activation_function=4)  # tanh
    code = Operator.UNIDIRECTIONAL_SEQUENCE_RNN
    graph.add(code, [x, *weights, state], given, options)
    path = tmp_path / "rnn.tflite"
    path.write_bytes(graph.content([x], [given]))
    model = LiteRTModel(path)
    values = np.full((1, 1, 1), 0.3, "f4")
    outputs = [float(np.ravel(model.predict(values))[0]) for _ in range(3)]
    assert outputs == pytest.approx([np.tanh(0.3)] * 3)


def test_an_output_that_is_given_twice_comes_in_its_order(tmp_path):
    inputs = keras.Input((3,))
    y, z = keras.layers.Dense(2)(inputs), keras.layers.Dense(2)(inputs)
    model = keras.Model(inputs, [y, z, y])
    path = export_litert(model, tmp_path / "twice.tflite")
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("f4")
    for mine, expected in zip(LiteRTModel(path).predict(x), model(x), strict=True):
        np.testing.assert_allclose(
            mine, keras.ops.convert_to_numpy(expected), atol=1e-5
        )


def test_an_input_that_is_an_output_too_keeps_its_place(tmp_path):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    outputs = [keras.layers.Dense(4)(a), keras.layers.Dense(4)(a), b]
    model = keras.Model([a, b], outputs)
    path = export_litert(model, tmp_path / "through.tflite")
    x = list(np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f4"))
    for mine, expected in zip(LiteRTModel(path).predict(x), model(x), strict=True):
        np.testing.assert_allclose(
            mine, keras.ops.convert_to_numpy(expected), atol=1e-5
        )


@pytest.mark.parametrize("isolated", [True, False])
def test_what_one_batch_leaves_is_not_the_next_ones(isolated, tmp_path):
    path = tmp_path / "counting.tflite"
    path.write_bytes(counting())
    model = LiteRTModel(path, isolated=isolated)
    x = np.full((3, 4), 2.0, "float32")
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(x), x)
    verify(path, "x86", rounds=1)


def test_names_are_those_of_the_graph_that_runs():
    class Interpreter:
        _interpreter = SimpleNamespace(
            GetSubgraphIndexFromSignature={"first": 0, "serving_default": 1}.get
        )

        def _get_full_signature_list(self):
            return {"first": "names", "serving_default": "of another graph"}

    assert litert_worker._signatures(Interpreter()) == {"first": "names"}


def test_numbered_outputs_are_in_order_without_a_signature(tmp_path):
    graph = Graph()
    x = graph.tensor([1, 4])
    for name, size in (("output_1", 2), ("output_0", 3)):
        kernel = graph.constant(np.ones((size, 4)))
        options = Record("FullyConnectedOptions")
        end = graph.tensor([1, size])
        graph.graph["tensors"][end]["name"] = name.encode()
        graph.add(Operator.FULLY_CONNECTED, [x, kernel, -1], end, options)
    ends = [n for n, t in enumerate(graph.graph["tensors"]) if b"output" in t["name"]]
    graph.content([x], ends)
    graph.model.drop("signature_defs")
    path = tmp_path / "m.tflite"
    path.write_bytes(write_records(graph.model))
    assert [spec.shape[1] for spec in LiteRTModel(path).outputs] == [3, 2]
    rebuilt = load_litert(path)
    assert [tensor.shape[1] for tensor in rebuilt.outputs] == [3, 2]
