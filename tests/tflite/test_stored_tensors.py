"""The tensors of a file as arrays, each stored content once."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tests.tflite import tflite_writer as writer

from penjing.tflite.stored_tensors import read_tflite

pytestmark = pytest.mark.once


@pytest.fixture
def read(tmp_path):
    def read_file(tensors, *buffers):
        path = tmp_path / "model.tflite"
        path.write_bytes(writer.make_file(tensors, [b"", *buffers]))
        return read_tflite(path)

    return read_file


def test_values_come_flat_with_what_the_file_says_of_them(read):
    data = np.arange(6, dtype="<f4")
    (tensor,) = read([writer.make_tensor("t", [2, 3], 0, 1)], data.tobytes())
    assert (tensor.name, tensor.shape, tensor.dtype) == ("t", (2, 3), "float32")
    assert tensor.values.tolist() == data.tolist() and tensor.zero == 0
    assert tensor.data == data.tobytes() and not tensor.is_sparse


@pytest.mark.parametrize(
    "kind, data, values",
    [
        (17, [0x0F, 0x80, 0x07], [-1, 0, 0, -8, 7]),
        (20, [0x0F, 0x80, 0x07], [15, 0, 0, 8, 7]),
        (19, [0b11100100, 0b01], [0, 1, -2, -1, 1]),
    ],
)
def test_packed_numbers_have_their_signs(read, kind, data, values):
    (tensor,) = read([writer.make_tensor("t", [5], kind, 1)], bytes(data))
    assert tensor.values.tolist() == values


@pytest.mark.parametrize(
    "points, axis, zero",
    [
        ([3], 0, 3),
        ([3, 5], 0, [3, 3, 3, 5, 5, 5]),
        ([1, 2, 4], 1, [1, 2, 4, 1, 2, 4]),
        ([3, 5], 1, 0),
        ([3, 5], 7, 0),
        ([0, 0], 0, 0),
    ],
)
def test_zero_stands_where_the_zero_points_say(read, points, axis, zero):
    (tensor,) = read([writer.make_tensor("t", [2, 3], 9, 1, points, axis)], bytes(6))
    assert np.asarray(tensor.zero).tolist() == zero
    assert tensor.num_scales == len(points)


def test_indices_count_among_the_bytes_of_a_sparse_tensor(read):
    vector = schema.Uint8VectorT(np.array([0, 2], "u1"))
    wide = schema.Uint16VectorT(np.array([1, 3], "<u2"))
    dimension = schema.DimensionMetadataT(1, 0, 3, vector, 2, wide)
    sparsity = schema.SparsityParametersT([0], None, [dimension])
    tensor = writer.make_tensor("t", [9], 9, 1, sparsity=sparsity)
    (found,) = read([tensor], b"ab")
    assert found.is_sparse and found.values.tolist() == [97, 98]
    assert found.data == b"ab" + bytes([0, 2]) + bytes([1, 0, 3, 0])


def test_a_long_or_broken_name_is_cut_and_an_empty_one_is_told(read):
    names = [b"n" * 5000, b"\xff\xfe", b""]
    tensors = [writer.make_tensor(n, [1], 9, i + 1) for i, n in enumerate(names)]
    found = [tensor.name for tensor in read(tensors, b"a", b"b", b"c")]
    assert found == ["n" * 1000, "\ufffd\ufffd", "(no name)"]
