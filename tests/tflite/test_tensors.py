"""Constants of a file as arrays, whatever their type."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    clear_negative_zeros,
    is_plain,
    make_scales,
    set_values,
    unpack,
    use_counts,
    values_of,
)

pytestmark = pytest.mark.once


def model_of(*tensors, buffers=1):
    graph = Record("SubGraph", tensors=list(tensors))
    empty = [Record("Buffer") for _ in range(buffers)]
    return Record("Model", subgraphs=[graph], buffers=empty)


def test_names_and_numbers_are_those_of_the_runtime():
    theirs = {k: v for k, v in vars(schema.TensorType).items() if k.isupper()}
    assert {item.name: int(item) for item in TensorType} == theirs


@pytest.mark.parametrize(
    "kind, bits, dtype",
    [("FLOAT16", 16, "float16"), ("INT4", 4, "int4"), ("BFLOAT16", 16, "bfloat16")],
)
def test_a_type_knows_its_bits_and_its_name(kind, bits, dtype):
    assert (TensorType[kind].bits, TensorType[kind].dtype) == (bits, dtype)


def test_texts_and_packed_numbers_do_not_stand_one_by_one():
    for kind in TensorType:
        tensor = Record("Tensor", type=kind, shape=np.array([8], "<i4"))
        model = model_of(tensor)
        set_values(model, tensor, np.zeros(8, kind.numpy_type or "u1"))
        assert is_plain(model, tensor) == (kind.bits >= 8), kind
    assert [kind.name for kind in TensorType if not kind.bits] == [
        "STRING",
        "RESOURCE",
        "VARIANT",
    ]


def test_packed_numbers_come_lowest_bits_first():
    data = np.array([0b1110_0100, 0x5F], "u1")
    assert unpack(data, 2).tolist() == [0, 1, 2, 3, 3, 3, 1, 1]
    assert unpack(data, 4).tolist() == [4, 14, 15, 5]


def test_new_values_leave_a_shared_buffer_alone():
    shape = np.array([2], "<i4")
    first, second = (Record("Tensor", shape=shape, buffer=1) for _ in range(2))
    model = model_of(first, second)
    set_values(model, first, np.array([1, 2], "<f4"))
    second["buffer"] = first["buffer"]
    set_values(model, second, np.array([3, 4], "<f4"))
    assert values_of(model, first).tolist() == [1, 2]
    assert values_of(model, second).tolist() == [3, 4]


def test_negative_zeros_of_floats_go():
    tensors = [
        Record("Tensor", type=kind, shape=np.array([3], "<i4"))
        for kind in (TensorType.FLOAT32, TensorType.FLOAT16, TensorType.FLOAT64)
    ]
    model = model_of(*tensors)
    for tensor in tensors:
        numpy_type = TensorType(tensor["type"]).numpy_type
        set_values(model, tensor, np.array([-0.0, -1, np.nan], numpy_type))
    clear_negative_zeros(model)
    found = [values_of(model, tensor) for tensor in tensors]
    for values in found:
        np.testing.assert_array_equal(values, [0, -1, np.nan])
    assert [bool(np.signbit(values[0])) for values in found] == [False, False, True]


def test_scales_say_the_axis_that_is_no_default():
    table = make_scales(np.array([0.5, 2.0]), 3)
    assert table["scale"].tolist() == [0.5, 2]
    assert table["scale"].dtype == "float32"
    assert (table["zero_point"].tolist(), table["quantized_dimension"]) == ([0, 0], 3)
    assert "quantized_dimension" not in make_scales(np.array([0.5, 2.0]), 0)


def test_uses_count_reads_and_ends_of_a_graph():
    tensors = [Record("Tensor", buffer=n) for n in (0, 1, 1)]
    model = model_of(*tensors, buffers=2)
    graph = model["subgraphs"][0]
    graph["inputs"], graph["outputs"] = np.array([0], "<i4"), np.array([2], "<i4")
    graph["operators"] = [
        Record("Operator", inputs=np.array([1, 1, -1], "<i4")),
        Record("Operator", inputs=np.array([2], "<i4")),
    ]
    assert use_counts(model) == {0: 1, 1: 4}
