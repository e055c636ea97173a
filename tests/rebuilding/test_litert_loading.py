"""A file becomes a model that gives what the file gives, and that goes on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.specializing.graphs import Graph
from tests.specializing.test_dilations import dilated

import penjing
from penjing.rebuilding import comparison, litert_loading
from penjing.runtime import sample_inputs
from penjing.specializing.dilations import join_dilations
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType
from penjing.tflite.writing import write_records

RNG = np.random.default_rng(0)


def window(kind, stride=1, padding=0, **more):
    return Record(kind, padding=padding, stride_w=stride, stride_h=stride, **more)


def convolutions():
    """Convolution, depthwise, sum of two, mean, dense, softmax."""
    graph, rng = Graph(), np.random.default_rng(0)
    x = graph.tensor([1, 8, 8, 3], free=True)
    kernel = graph.constant(rng.normal(size=(4, 3, 3, 3)))
    bias = graph.constant(rng.normal(size=4))
    options = window("Conv2DOptions", 2, fused_activation_function=3)
    first = graph.add(
        Operator.CONV_2D, [x, kernel, bias], graph.tensor([1, 4, 4, 4]), options
    )
    slow = graph.constant(rng.normal(size=(1, 3, 3, 4)))
    options = window("DepthwiseConv2DOptions", 1, depth_multiplier=1)
    second = graph.add(
        Operator.DEPTHWISE_CONV_2D,
        [first, slow, graph.constant(np.zeros(4))],
        graph.tensor([1, 4, 4, 4]),
        options,
    )
    options = Record("AddOptions", fused_activation_function=1)
    both = graph.add(Operator.ADD, [first, second], graph.tensor([1, 4, 4, 4]), options)
    axes = graph.constant([1, 2], "i4")
    mean = graph.add(
        Operator.MEAN, [both, axes], graph.tensor([1, 4]), Record("ReducerOptions")
    )
    matrix = graph.constant(rng.normal(size=(5, 4)))
    dense = graph.add(
        Operator.FULLY_CONNECTED,
        [mean, matrix, -1],
        graph.tensor([1, 5]),
        Record("FullyConnectedOptions"),
    )
    y = graph.add(
        Operator.SOFTMAX,
        [dense],
        graph.tensor([1, 5]),
        Record("SoftmaxOptions", beta=1.0),
    )
    return graph.content([x], [y])


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "net.tflite"
    file.write_bytes(convolutions())
    return file


def test_a_float_file_becomes_layers_that_give_the_same(path):
    model = penjing.load_litert(path)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        "InputLayer",
        "Conv2D",
        "DepthwiseConv2D",
        "Add",
        "ReLU",
        "GlobalAveragePooling2D",
        "Dense",
        "Softmax",
    ]
    assert model.input_shape == (None, 8, 8, 3)
    assert model.layers[1].activation is keras.activations.relu6
    x = RNG.normal(size=(3, 8, 8, 3)).astype("f4")
    file = penjing.LiteRTModel(path)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(x)), file.predict(x), atol=1e-5
    )


def test_a_loaded_model_is_cut_and_pruned(path):
    model = penjing.load_litert(path)
    smaller = penjing.prune_channels(model, ratio=0.5, round_to=1)
    assert smaller.count_params() < model.count_params()
    pruned = penjing.prune(smaller, penjing.ConstantSparsity(0.5, begin_step=0))
    pruned.compile("adam", "mse")
    x = RNG.normal(size=(8, 8, 8, 3)).astype("f4")
    pruned.fit(x, keras.ops.convert_to_numpy(model(x)), epochs=1, verbose=0)
    assert smaller.output_shape == (None, 5)


@pytest.mark.once
def test_a_layer_that_gives_something_else_is_refused(path, monkeypatch):
    rules = litert_loading.build_model.__globals__["RULES"]
    monkeypatch.setitem(
        rules, Operator.SOFTMAX, lambda step: keras.layers.Activation("sigmoid")
    )
    with pytest.raises(penjing.ExportError, match="SOFTMAX 'tensor_12' of .*: off by"):
        penjing.load_litert(path)


@pytest.mark.once
def test_operators_without_a_rule_are_all_named_first(tmp_path, monkeypatch):
    graph = Graph()
    x = graph.tensor([1, 4])
    for code in (Operator.ATAN2, Operator.ATAN2, Operator.FLOOR, Operator.RFFT2D):
        x = graph.add(code, [x], graph.tensor([1, 4]))
    path = tmp_path / "odd.tflite"
    path.write_bytes(graph.content([0], [x]))
    monkeypatch.setattr(litert_loading, "specialize", None)
    with pytest.raises(
        penjing.UnsupportedModelError,
        match=r"ATAN2 \(2: at 'tensor_1', 'tensor_2'\); RFFT2D \(1: at 'tensor_4'\)",
    ):
        penjing.load_litert(path)


@pytest.mark.once
def test_damaged_files_are_one_error(tmp_path, path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(penjing.FileFormatError, match="corrupt"):
        penjing.load_litert(path)
    with pytest.raises(penjing.FileFormatError, match="none.tflite"):
        penjing.load_litert(tmp_path / "none.tflite")


@pytest.mark.once
def test_the_whole_models_deviation_is_that_of_its_outputs(path):
    found = litert_loading.rebuild(path.read_bytes(), "net")
    model = found.rebuilt.model
    assert comparison.deviation(model, found.graph, found.runs).relative < 1e-5
    model.layers[-2].kernel.assign_add(np.full((4, 5), 0.5).cumsum(1))
    assert comparison.deviation(model, found.graph, found.runs).relative > 1e-2


def test_a_batch_that_cannot_be_free_stays_fixed_and_it_is_said(tmp_path):
    graph = Graph()
    x = graph.tensor([2, 3])
    path = tmp_path / "mixed.tflite"
    own = graph.constant(RNG.normal(size=(2, 3)))
    y = graph.add(Operator.ADD, [x, own], graph.tensor([2, 3]), Record("AddOptions"))
    path.write_bytes(graph.content([x], [y]))
    with pytest.warns(penjing.CompressionWarning, match="batch_size=2"):
        model = penjing.load_litert(path)
    assert model.input_shape == (2, 3)


@pytest.mark.once
def test_what_a_backend_says_is_said_of_the_operator(path, monkeypatch):
    def fail(x):
        raise OSError("of its own")  # only once it runs

    rules = litert_loading.build_model.__globals__["RULES"]
    monkeypatch.setitem(rules, Operator.SOFTMAX, lambda step: fail)
    with pytest.raises(
        penjing.UnsupportedModelError, match=r"SOFTMAX 'tensor_12' of .*: of its own"
    ):
        penjing.load_litert(path)


@pytest.mark.once
def test_inputs_of_texts_and_too_large_ones_are_said(tmp_path, monkeypatch):
    file = tmp_path / "texts.tflite"
    graph = Graph()
    x = graph.tensor([1, 4])
    y = graph.add(Operator.FLOOR, [x], graph.tensor([1, 4]))
    file.write_bytes(graph.content([x], [y]))
    monkeypatch.setattr(sample_inputs, "_MOST_VALUES", 3)
    with pytest.raises(penjing.DataError, match="Inputs of 4 values .*LIMITS"):
        penjing.load_litert(file)
    monkeypatch.undo()
    graph.graph["tensors"][x]["type"] = TensorType.STRING
    file.write_bytes(graph.content([x], [y]))
    with pytest.raises(penjing.DataError, match="'tensor_0' takes string values"):
        penjing.load_litert(file)


def test_outputs_are_in_the_order_of_their_names(tmp_path):
    graph = Graph()
    x = graph.tensor([1, 4])
    ends = [
        graph.add(
            Operator.FULLY_CONNECTED,
            [x, graph.constant(RNG.normal(size=(3, 4))), -1],
            graph.tensor([1, 3]),
            Record("FullyConnectedOptions"),
        )
        for _ in range(2)
    ]
    graph.content([x], ends)
    for row, name in zip(
        graph.model["signature_defs"][0]["outputs"],
        (b"output_1", b"output_0"),
        strict=True,
    ):
        row["name"] = name
    path = tmp_path / "m.tflite"
    path.write_bytes(write_records(graph.model))
    inputs = RNG.normal(size=(1, 4)).astype("float32")
    found = penjing.load_litert(path)(inputs)
    wanted = penjing.LiteRTModel(path).predict(inputs)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), other, atol=1e-5)


def test_joined_dilations_are_compared_with_the_file(monkeypatch, tmp_path):
    graph, x, y = dilated()
    path = tmp_path / "m.tflite"
    path.write_bytes(graph.content([x], [y]))
    penjing.load_litert(path)

    def wrong(model):
        assert join_dilations(model)
        for operator in model["subgraphs"][0]["operators"]:
            if operator_code(model, operator) == Operator.CONV_2D:
                operator["builtin_options"]["dilation_w_factor"] = 1
        return True

    monkeypatch.setattr(litert_loading, "join_dilations", wrong)
    with pytest.raises(penjing.CompressionError):
        penjing.load_litert(path)
