"""The numbers in a file, against twins written from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penjing.shrinking.rounding import (
    equal_scale_edits,
    round_biases,
    round_mantissa,
)
from penjing.tflite.graph_edits import add_tensor
from penjing.tflite.operators import Operator, code_index
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, set_values, values_of

pytestmark = pytest.mark.once

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


@given(hnp.arrays(np.float32, 8, elements=FLOATS), st.integers(0, 23))
def test_rounded_mantissas_are_the_nearest_of_few_bits(values, bits):
    mantissas, exponents = np.frexp(values.astype("f8"))
    # 1 bit before the point of the significand, `bits` behind it; ties to even.
    expected = np.ldexp(np.rint(mantissas * 2.0 ** (bits + 1)), exponents - bits - 1)
    np.testing.assert_array_equal(round_mantissa(values, bits), expected.astype("f4"))


def test_halves_are_rounded_to_even_and_infinities_stay():
    values = np.array([1.25, 1.75, -1.25, 0.0, np.inf, np.nan, 3.4e38], "f4")
    rounded = round_mantissa(values, 1)
    np.testing.assert_array_equal(rounded[:5], [1.0, 2.0, -1.0, 0.0, np.inf])
    assert np.isnan(rounded[5]) and np.isfinite(rounded[6])


def scaled(scales, points, axis=0):
    return Record(
        "QuantizationParameters",
        scale=np.array(scales, "<f4"),
        zero_point=np.array(points, "<i8"),
        quantized_dimension=axis,
    )


def test_only_scales_that_are_all_the_same_become_one():
    several = [
        scaled([0.5, 0.5], [3, 3], axis=1),
        scaled([0.5, 0.25], [3, 3]),
        scaled([0.5, 0.5], [3, 0]),
        scaled([0.5], [3]),
    ]
    tensors = [Record("Tensor", quantization=item) for item in several]
    model = Record("Model", subgraphs=[Record("SubGraph", tensors=tensors)])
    (edit,) = equal_scale_edits(model)
    edit(model)
    assert [len(t["quantization"]["scale"]) for t in tensors] == [1, 2, 2, 1]
    assert tensors[0]["quantization"]["zero_point"].tolist() == [3]
    assert "quantized_dimension" not in tensors[0]["quantization"]


def test_only_float_biases_are_rounded():
    """That of a transposed convolution is its fourth input; weights stay."""
    graph = Record("SubGraph")
    model = Record("Model", subgraphs=[graph], buffers=[Record("Buffer")])
    for kind in (TensorType.FLOAT32, TensorType.FLOAT32, TensorType.INT32):
        tensor = Record("Tensor", type=kind, shape=np.array([2], "<i4"))
        set_values(model, tensor, np.array([5.1, -1.3], TensorType(kind).numpy_type))
        add_tensor(graph, tensor)
    graph["operators"] = [
        Record(
            "Operator",
            opcode_index=code_index(model, code),
            inputs=np.array(inputs, "<i4"),
        )
        for code, inputs in (
            (Operator.TRANSPOSE_CONV, [-1, 1, -1, 0]),
            (Operator.CONV_2D, [-1, 1, 2]),
            (Operator.FULLY_CONNECTED, [-1, 1]),
            (Operator.ADD, [-1, 1, 1]),
        )
    ]
    assert round_biases(model, 1) == 1
    found = [values_of(model, tensor).tolist() for tensor in graph["tensors"]]
    assert found == [[6.0, -1.5], [np.float32(5.1), np.float32(-1.3)], [5, -1]]
