"""Records of DECODE: bytes found by hand, what is written read, and hostile ones."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.errors import FileFormatError
from penjing.tflite.decode_records import (
    decoded,
    encode_huffman,
    layout_of,
    pack_bits,
    write_huffman,
    write_mask,
    write_table,
)
from penjing.tflite.huffman_tables import make_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType

pytestmark = pytest.mark.once


def tensor(shape, kind=TensorType.INT8, channels=1, axis=0, points=None):
    return Record(
        "Tensor",
        name=b"w",
        shape=np.array(shape, "<i4"),
        type=kind,
        quantization=Record(
            "QuantizationParameters",
            scale=np.ones(channels, "<f4"),
            zero_point=np.array(points or [0] * channels, "<i8"),
            quantized_dimension=axis,
        ),
    )


def test_a_table_by_hand():
    target = tensor((4,))
    record = write_table(2, np.array([[-5, 0, 7]], "i1"), layout_of(target))
    assert record == bytes([0, 1, 0, 0, 1, 0xF2, 3]) + bytes(9) + bytes([0xFB, 0, 7])
    data = bytes([0b10_01_00_10])
    np.testing.assert_array_equal(decoded(data, record, target, "f"), [7, 0, -5, 7])


def test_a_table_for_each_channel_by_hand():
    target = tensor((2, 2), channels=2)
    tables = np.array([[1, 2], [3, 4]], "i1")
    record = write_table(1, tables, layout_of(target))
    assert record[5:7] == bytes([0x01, 2])
    data = bytes([0b1001_0000])
    np.testing.assert_array_equal(decoded(data, record, target, "f"), [2, 1, 3, 4])
    last = tensor((2, 2), channels=2, axis=1)
    record = write_table(1, tables, layout_of(last))
    assert record[5] == 0x11
    np.testing.assert_array_equal(decoded(data, record, last, "f"), [2, 3, 1, 4])


def test_channels_may_share_a_table():
    target = tensor((2, 2), channels=2)
    record = write_table(1, np.array([[5, 9]], "i1"), layout_of(target))
    assert record[5:7] == bytes([0xF1, 0])
    np.testing.assert_array_equal(
        decoded(bytes([0b0110_0000]), record, target, "f"), [5, 9, 9, 5]
    )


def test_a_mask_by_hand():
    target = tensor((9,), points=[3])
    record = write_mask(np.array([7, -1], "i1"), layout_of(target))
    assert record == bytes([2, 1, 0, 0, 1]) + bytes(11) + bytes([7, 0xFF])
    data = bytes([0b0100_0000, 0b1000_0000])
    np.testing.assert_array_equal(
        decoded(data, record, target, "f"), [3, 7, 3, 3, 3, 3, 3, 3, -1]
    )


def test_a_zero_point_without_scale_is_not_read():
    target = tensor((9,), points=[3])
    target["quantization"].drop("scale")
    assert layout_of(target).zeros.tolist() == [0]


def test_a_mask_of_floats_keeps_their_bits():
    target = tensor((3,), TensorType.FLOAT32)
    values = np.array([-0.0, 0.0, np.nan], "<f4").view("<u4")
    record = write_mask(values[[0, 2]], layout_of(target))
    read = decoded(bytes([0b1010_0000]), record, target, "f")
    np.testing.assert_array_equal(read, values)


def test_huffman_by_hand():
    target = tensor((4,))
    code = make_code({0: 3, 1: 1})
    record = write_huffman(code)
    assert record[:6] == bytes([1, 1, 0, 0, 1, 0])
    assert record[16:] == bytes([0x00, 0x88, 0x01, 0x88])
    data = encode_huffman(np.array([0, 1, 0, 0], "i1"), code)
    assert data == bytes([0b0100_0000, 0, 0, 0])
    np.testing.assert_array_equal(decoded(data, record, target, "f"), [0, 1, 0, 0])


def test_no_decoder_knows_a_middle_axis():
    layout = layout_of(tensor((2, 3, 2), channels=3, axis=1))
    assert not layout.has_channels
    assert layout_of(tensor((4,), TensorType.BOOL)) is None


BITS = pack_bits(np.arange(8), 3)
TABLE = write_table(3, np.arange(8, dtype="i1")[None], layout_of(tensor((8,))))
CUT = "its header has 9 of 16 bytes"


@pytest.mark.parametrize(
    ("data", "record", "reason"),
    [
        (BITS, TABLE[:9], CUT),
        (BITS, bytes([9]) + TABLE[1:], "form 9 is none"),
        (BITS, TABLE[:1] + bytes([2]) + TABLE[2:], "version is 2.1, not 1.1"),
        (BITS, TABLE[:5] + bytes([0xF8]) + TABLE[6:], "indices have 8 bits"),
        (BITS[:-1], TABLE, "8 numbers of 3 bits take 3 bytes, it has 2"),
        (BITS + bytes(16), TABLE, "it has 19"),
        (BITS, TABLE[:-1], "reads entry 7 of 7"),
        (bytes([255]), bytes([2]) + TABLE[1:-1], "8 bytes are to follow"),
        (bytes(4), bytes([1]) + TABLE[1:5] + bytes(11), "lead out of its tables"),
        (bytes(3), bytes([1]) + TABLE[1:5] + bytes(11), "words or tables are cut"),
    ],
)
def test_hostile_records_are_refused_by_name(data, record, reason):
    with pytest.raises(
        FileFormatError, match=rf"^f, tensor 'w', is corrupt: .*{reason}"
    ):
        decoded(data, record, tensor((8,)), "f")


@given(st.binary(max_size=40), st.binary(min_size=16, max_size=60), st.integers(0, 2))
def test_any_bytes_are_decoded_or_refused(data, record, form):
    record = bytes([form, 1, 0, 0, 1]) + record[5:]
    for target in (
        tensor((4, 6)),
        tensor((4, 6), channels=4),
        tensor((1, 4, 6), channels=6, axis=2),
    ):
        with contextlib.suppress(FileFormatError):
            assert decoded(data, record, target, "f").shape == (24,)
