"""Int8 weights that become int4, and the biases beside them."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.export.weights.calibrated_weights import keep_calibrated_weights
from penjing.export.weights.integer_weights import rounded_to_int4
from penjing.runtime.product_files import KernelProduct, write_product
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    data_of,
    make_scales,
    set_values,
    unpack,
    values_of,
)
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once
PRODUCTS = {
    "dense": KernelProduct(kind="dense", inputs=64, outputs=32),
    "conv": KernelProduct(
        kind="conv", inputs=16, outputs=8, kernel=(3, 3), size=(5, 5)
    ),
    "depthwise": KernelProduct(
        kind="depthwise", inputs=1, outputs=128, kernel=(3, 3), size=(5, 5)
    ),
}
BIAS_STEPS = 100_000


def int8_model(kind):
    """One product, and the parts of it: input, weights, bias."""
    model = load_records(write_product(PRODUCTS[kind], "int8"), "a product")
    parts = model["subgraphs"][0]["tensors"][:3]
    bias = np.full(parts[2]["shape"], BIAS_STEPS, "<i4")
    set_values(model, parts[2], bias)
    return model, parts


def integers_of(model, tensor):
    halves = unpack(data_of(model, tensor), 4).astype("i1")
    return np.where(halves > 7, halves - 16, halves).reshape(tensor["shape"])


@pytest.mark.parametrize("kind", PRODUCTS)
def test_weights_are_rounded_once_and_biases_keep_their_values(kind):
    model, (data, weights, bias) = int8_model(kind)
    axis = 3 if kind == "depthwise" else 0
    floats = values_of(model, weights) * weights["quantization"]["scale"][0]
    before = BIAS_STEPS * bias["quantization"]["scale"][0]
    keep_calibrated_weights(model, bits=4)
    assert weights["type"] == TensorType.INT4
    wanted = rounded_to_int4(floats.astype("float32"), axis)
    np.testing.assert_array_equal(integers_of(model, weights), wanted.integers)
    scales = weights["quantization"]["scale"]
    np.testing.assert_allclose(scales, wanted.scales, rtol=1e-6)
    assert weights["quantization"]["quantized_dimension"] == axis
    steps = data["quantization"]["scale"][0] * scales
    np.testing.assert_allclose(bias["quantization"]["scale"], steps, rtol=1e-6)
    np.testing.assert_allclose(
        values_of(model, bias) * bias["quantization"]["scale"], before, rtol=1e-3
    )
    versions = {"dense": 10, "conv": 7, "depthwise": 7}
    assert model["operator_codes"][0]["version"] == versions[kind]


def test_floats_behind_the_integers_are_found_by_value():
    model, (_, weights, _) = int8_model("dense")
    scale = weights["quantization"]["scale"][0]
    rounded = values_of(model, weights) * scale
    rng = np.random.default_rng(0)
    floats = (rounded + rng.uniform(-0.5, 0.5, rounded.shape) * scale).astype("<f4")
    tensors = []
    plain = Record("Model", buffers=[Record("Buffer")])
    for values in (floats + 1, floats, floats.T):
        tensor = Record("Tensor", shape=np.array(values.shape, "<i4"))
        set_values(plain, tensor, values)
        tensors.append(tensor)
    plain["subgraphs"] = [Record("SubGraph", tensors=tensors)]
    keep_calibrated_weights(model, plain, bits=4)
    wanted = rounded_to_int4(floats, 0)
    np.testing.assert_array_equal(integers_of(model, weights), wanted.integers)
    np.testing.assert_array_equal(weights["quantization"]["scale"], wanted.scales)


def test_a_bias_that_others_read_too_stays_theirs():
    model, (_, _, bias) = int8_model("dense")
    graph = model["subgraphs"][0]
    first = graph["operators"][0]
    again = first.copy()
    again["outputs"] = np.array([4], "<i4")
    graph["tensors"] = [*graph["tensors"], graph["tensors"][3].copy()]
    graph["operators"] = [first, again]
    other = make_scales(np.array([0.5]))  # another input's scale
    graph["tensors"] = [*graph["tensors"], graph["tensors"][0].copy()]
    graph["tensors"][5]["quantization"] = other
    again["inputs"] = np.array([5, 1, 2], "<i4")
    value = BIAS_STEPS * bias["quantization"]["scale"][0]
    keep_calibrated_weights(model, bits=4)
    numbers = [int(operator["inputs"][2]) for operator in (first, again)]
    assert numbers[0] != numbers[1]
    for number in numbers:
        own = graph["tensors"][number]
        np.testing.assert_allclose(
            values_of(model, own) * own["quantization"]["scale"], value, rtol=5e-3
        )
    load_records(write_records(model), "what was made")


def computing_in_floats(model, data, weights, bias):
    data["type"] = TensorType.FLOAT32


def with_a_bias_of_64_bits(model, data, weights, bias):
    set_values(model, bias, np.zeros(bias["shape"], "<i8"))
    bias["type"] = TensorType.INT64


def of_another_operator(model, data, weights, bias):
    code = model["operator_codes"][0]
    code["builtin_code"] = code["deprecated_builtin_code"] = Operator.TRANSPOSE_CONV


def given_out_too(model, data, weights, bias):
    model["subgraphs"][0]["outputs"] = np.array([3, 1], "<i4")


def of_few_elements(model, data, weights, bias):
    weights["shape"] = np.array([32, 8], "<i4")
    values = np.random.default_rng(0).integers(-127, 128, (32, 8), "i1")
    set_values(model, weights, values)


@pytest.mark.parametrize(
    "change",
    [
        computing_in_floats,
        with_a_bias_of_64_bits,
        of_another_operator,
        given_out_too,
        of_few_elements,
    ],
    ids=lambda change: change.__name__,
)
def test_other_weights_stay_int8(change):
    model, parts = int8_model("dense")
    change(model, *parts)
    before = values_of(model, parts[1]).copy()
    keep_calibrated_weights(model, bits=4)
    assert parts[1]["type"] == TensorType.INT8
    np.testing.assert_array_equal(values_of(model, parts[1]), before)
