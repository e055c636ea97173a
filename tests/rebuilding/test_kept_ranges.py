"""An int8 file keeps its integers on the way into a model and out of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.specializing.graphs import Graph

import penjing
from penjing.rebuilding.comparison import deviation
from penjing.rebuilding.kept_ranges import with_kept_ranges
from penjing.rebuilding.litert_loading import rebuild
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, calls
from penjing.tflite.records import Record
from penjing.tflite.stored_tensors import numbers_of
from penjing.tflite.tensors import TensorType, make_scales

RNG = np.random.default_rng(0)
STEP = 0.02
# The ranges of these files are made up, so that random inputs leave them.
leaves_ranges = pytest.mark.filterwarnings("ignore:Each layer made of")


def weights(graph, shape, axis, count, least=-126):
    """Integers that use the whole range, with a scale for each channel."""
    values = RNG.integers(-126, 127, shape)
    values.reshape(-1)[-1] = least
    np.moveaxis(values, axis, 0).reshape(count, -1)[:, 0] = 127
    number = graph.constant(values, "i1")
    scales = RNG.uniform(0.005, 0.01, count)
    graph.graph["tensors"][number]["quantization"] = make_scales(scales, axis)
    return number, scales.astype("f4")


def bias(graph, scales, step):
    number = graph.constant(RNG.integers(-300, 300, scales.size), "i4")
    graph.graph["tensors"][number]["quantization"] = make_scales(scales * step)
    return number


def integers(least=-126):
    """Convolution with a rectifier, mean, dense; floats before and after."""
    graph = Graph()
    given = graph.tensor([1, 8, 8, 3], free=True)
    x = graph.tensor([1, 8, 8, 3], "i1", scale=STEP, zero_point=3)
    graph.add(Operator.QUANTIZE, [given], x, Record("QuantizeOptions"))
    kernel, scales = weights(graph, (4, 3, 3, 3), 0, 4)
    options = Record(
        "Conv2DOptions", stride_w=2, stride_h=2, fused_activation_function=1
    )
    hidden = graph.tensor([1, 4, 4, 4], "i1", scale=0.03, zero_point=-128)
    inputs = [x, kernel, bias(graph, scales, STEP)]
    graph.add(Operator.CONV_2D, inputs, hidden, options, version=3)
    mean = graph.tensor([1, 4], "i1", scale=0.02, zero_point=-128)
    axes = graph.constant([1, 2], "i4")
    graph.add(Operator.MEAN, [hidden, axes], mean, Record("ReducerOptions"), version=2)
    matrix, scales = weights(graph, (5, 4), 0, 5, least)
    result = graph.tensor([1, 5], "i1", scale=0.04, zero_point=10)
    inputs = [mean, matrix, bias(graph, scales, 0.02)]
    options = Record("FullyConnectedOptions")
    graph.add(Operator.FULLY_CONNECTED, inputs, result, options, version=5)
    y = graph.tensor([1, 5])
    graph.add(Operator.DEQUANTIZE, [result], y, version=2)
    return graph.content([given], [y])


def constants(content):
    """The stored integers of kernels and biases, by type and size."""
    model = load_records(content, "file")
    tensors = model["subgraphs"][0]["tensors"]
    kept = {TensorType.INT8: [], TensorType.INT32: []}
    for tensor in tensors:
        values = numbers_of(model, tensor)
        table = tensor["quantization"]
        has_grid = table is not None and len(table["scale"])
        if values is not None and tensor["type"] in kept and has_grid:
            kept[tensor["type"]].append(sorted(values.reshape(-1).tolist()))
    return {kind: sorted(lists, key=len) for kind, lists in kept.items()}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "int8.tflite"
    file.write_bytes(integers())
    return file


def test_a_model_on_the_files_grids_gives_what_the_file_gives(path):
    found = rebuild(path.read_bytes(), "file")
    plain = deviation(found.rebuilt.model, found.graph, found.runs)
    kept = with_kept_ranges(found.rebuilt, found.graph, "file")
    off = deviation(kept, found.graph, found.runs)
    largest = max(np.abs(run.real(found.graph.outputs[0])).max() for run in found.runs)
    assert off.relative * largest <= 0.04 * 1.01 < plain.relative * largest * 10


@pytest.mark.once
def test_an_export_has_the_integers_of_the_file(path, tmp_path):
    model = penjing.load_litert(path, quantized=True)
    out = tmp_path / "again.tflite"
    penjing.export_litert(model, out, quantization="int8")
    assert constants(out.read_bytes()) == constants(path.read_bytes())
    x = RNG.normal(size=(16, 8, 8, 3)).astype("f4")
    first, again = (penjing.LiteRTModel(file).predict(x) for file in (path, out))
    assert np.abs(first - again).max() <= 0.04 * 1.01


@leaves_ranges
def test_a_plain_model_has_weights_on_the_files_grid(path):
    model = penjing.load_litert(path)
    kernel = keras.ops.convert_to_numpy(model.get_layer(index=1).kernel)
    tops = np.abs(kernel).reshape(-1, 4).max(0)
    steps = kernel.reshape(-1, 4) / (tops / 127)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


@pytest.mark.once
def test_grids_that_training_cannot_keep_are_refused(tmp_path):
    from tests.rebuilding.test_litert_loading import convolutions

    path = tmp_path / "float.tflite"
    path.write_bytes(convolutions())
    with pytest.raises(penjing.UnsupportedModelError, match="no ranges to keep"):
        penjing.load_litert(path, quantized=True)
    with pytest.raises(ValueError, match="`quantized` must be"):
        penjing.load_litert(path, quantized="yes")


def test_weights_below_trained_grids_are_refused(tmp_path):
    path = tmp_path / "least.tflite"
    path.write_bytes(integers(least=-128))
    with pytest.raises(penjing.UnsupportedModelError, match="reach -128"):
        penjing.load_litert(path, quantized=True)


def test_a_rectifier_that_is_only_a_range_is_kept(tmp_path):
    """Some converters fuse none where the least integer stands for 0."""
    path = tmp_path / "range.tflite"
    layers = [keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    x = RNG.normal(size=(64, 6)).astype("f4")
    penjing.export_litert(model, path, "int8", representative_data=x)
    edited = EditedFile(path.read_bytes(), "range.tflite")
    assert edited.edit(leave_rectifiers_out)
    path.write_bytes(edited.content)
    loaded = penjing.load_litert(path)
    assert loaded.layers[1].activation is keras.activations.relu
    assert loaded.layers[2].activation is keras.activations.linear
    expected = penjing.LiteRTModel(path).predict(x)
    found = keras.ops.convert_to_numpy(loaded(x))
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def leave_rectifiers_out(model):
    """Take fused rectifiers off; the ranges stay."""
    found = [
        call.options
        for call in calls(model, model["subgraphs"][0])
        if call.code == Operator.FULLY_CONNECTED
        and call.option("fused_activation_function") == 1
    ]
    for options in found:
        options["fused_activation_function"] = 0
    return bool(found)


def ranged(code, other=None, options=None):
    """An operator on integers that are 0 or more, as is what it gives: 0 is -128."""
    graph = Graph()
    small = {"scale": 0.02, "zero_point": -128}
    given = graph.tensor([1, 2, 4])
    x = graph.tensor([1, 2, 4], "i1", **small)
    graph.add(Operator.QUANTIZE, [given], x, Record("QuantizeOptions"))
    inputs = [x, x]
    if other is not None:
        values = np.full(4 if code != Operator.BATCH_MATMUL else (4, 4), other)
        inputs[1] = graph.constant(values, "i1", scale=0.01)
    shape = [1, 2, 4] if other is not None else [1, 2, 2]
    made = graph.tensor(shape, "i1", **small)
    options = Record(options, **({} if other is not None else {"adj_y": True}))
    graph.add(code, inputs, made, options, version=2)
    y = graph.tensor(shape)
    graph.add(Operator.DEQUANTIZE, [made], y, version=2)
    return graph.content([given], [y])


@pytest.mark.parametrize(
    ("code", "other", "options", "rectifies"),
    [
        (Operator.ADD, -50, "AddOptions", True),
        (Operator.ADD, 50, "AddOptions", False),
        (Operator.MUL, -50, "MulOptions", True),
        (Operator.SUB, 50, "SubOptions", True),
        (Operator.BATCH_MATMUL, None, "BatchMatMulOptions", False),
        (Operator.BATCH_MATMUL, -50, "BatchMatMulOptions", True),
    ],
)
@leaves_ranges
def test_what_may_fall_below_0_keeps_the_rectifier_of_its_range(
    code, other, options, rectifies, tmp_path
):
    path = tmp_path / "ranged.tflite"
    path.write_bytes(ranged(code, other, options))
    model = penjing.load_litert(path)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert ("ReLU" in kinds) == rectifies
    x = RNG.uniform(0, 2, (3, 2, 4)).astype("f4")
    given = keras.ops.convert_to_numpy(model(x))
    assert (given >= 0).all()
