"""Values that never change are known before a file runs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.shrinking.graphs_by_hand import dense_chain
from tests.shrinking.test_dead_units import residual_model, samples, silence
from tests.tflite import tflite_writer as writer

from penjing.shrinking.unit_groups import UnitGroups
from penjing.shrinking.unit_values import UnitValues, is_not_zero, real_values
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, set_values, values_of

pytestmark = pytest.mark.once


def test_known_values_are_those_that_the_runtime_computes(tmp_path):
    """Every value that is called constant, read from the runtime for random inputs."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = residual_model()
    silence(model.get_layer("a"), [1, 2, 5], 0.4)
    silence(model.get_layer("b"), [2, 3, 5], -0.3)
    silence(model.get_layer("d"), [0], 0.0)
    for content in (
        writer.convert(model),
        writer.convert(model, "DEFAULT", samples=samples(40, 6, 6, 2)),
    ):
        records = load_records(content, "it")
        groups = UnitGroups(records)
        found = UnitValues(records, 0, groups.blocks[0])
        interpreter = Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        (item,) = interpreter.get_input_details()
        interpreter.set_tensor(item["index"], samples(1, 6, 6, 2))
        interpreter.invoke()
        known = 0
        for t in range(len(records["subgraphs"][0]["tensors"])):
            values = found.of(t)
            is_known = np.isfinite(values)
            if not is_known.any():
                continue
            detail = interpreter._get_tensor_details(t, 0)
            actual = interpreter.get_tensor(t).reshape(-1, len(values)).astype("f8")
            if detail["quantization"][0]:
                actual = (actual - detail["quantization"][1]) * detail["quantization"][
                    0
                ]
            for n in np.flatnonzero(is_known):
                np.testing.assert_allclose(actual[:, n], values[n], atol=1e-6)
            known += int(is_known.sum())
        assert known >= 6


@pytest.mark.parametrize(
    "between, of",
    [
        (Operator.RELU, lambda x: np.maximum(x, 0)),
        (Operator.NEG, np.negative),
        (Operator.TANH, np.tanh),
        (Operator.SOFTMAX, lambda x: np.full(6, np.nan)),
    ],
)
def test_a_unit_without_weights_gives_its_bias_to_what_is_known(between, of):
    model = dense_chain(between)
    weights, bias = model["subgraphs"][0]["tensors"][1:3]
    values = values_of(model, weights).copy()
    values[[1, 4]] = 0
    set_values(model, weights, values)
    set_values(model, bias, np.array([9, -2, 9, 9, 0.5, 9], "<f4"))
    found = UnitValues(model, 0, UnitGroups(model).blocks[0])
    expected = np.full(6, np.nan)
    expected[[1, 4]] = -2, 0.5
    np.testing.assert_array_equal(found.of(3), expected)
    np.testing.assert_allclose(found.of(4), of(expected), rtol=1e-6)


def quantized(scale, points, axis=0):
    model = Record("Model", buffers=[Record("Buffer")])
    tensor = Record("Tensor", type=TensorType.INT8, shape=np.array([2, 2], "<i4"))
    set_values(model, tensor, np.array([[0, 4], [2, 6]], "i1"))
    tensor["quantization"] = Record(
        "QuantizationParameters",
        scale=np.array(scale, "<f4"),
        zero_point=np.array(points, "<i8"),
        quantized_dimension=axis,
    )
    return model, tensor


def test_real_values_follow_scales_and_zero_points():
    constant = quantized([0.5, 2], [0, 2], axis=1)
    assert real_values(*constant).tolist() == [[0, 4], [1, 8]]
    assert is_not_zero(*constant).tolist() == [[False, True], [True, True]]
    constant = quantized([0.5], [2])
    assert real_values(*constant).tolist() == [[-1, 1], [0, 2]]
    assert is_not_zero(*constant).tolist() == [[True, True], [False, True]]
    assert is_not_zero(*quantized([0.5], [])).tolist() == [[False, True], [True, True]]


def test_scales_that_are_tensors_are_not_understood():
    model, tensor = quantized([0.5], [])
    details = Record("BlockwiseQuantization", scales=1)
    tensor["quantization"]["details"] = details
    assert np.isnan(real_values(model, tensor)).all()
    assert is_not_zero(model, tensor).all()
