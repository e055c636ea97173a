"""Offsets of strangers are followed only to bytes that are there."""

from __future__ import annotations

import struct

import pytest

from penjing.errors import FileFormatError
from penjing.tflite.flat_buffers import READS_FLOOR, FlatBuffer

pytestmark = pytest.mark.once


def small(*, text=12, count=3, fields=10, value=0xFFFF):
    """A table with an int16, nothing, and three bytes; each part may be spoilt."""
    content = struct.pack("<I4s", 20, b"TFL3")
    content += struct.pack("<HHHHH", fields, 12, 4, 0, 8) + b"\0\0"  # its fields
    content += struct.pack("<iHHI", 12, value, 0, text)
    return content + struct.pack("<I", count) + b"abc\0"


def root(content):
    return FlatBuffer(content, "it").root()


def test_fields_are_read_and_absent_ones_are_known():
    table = root(small(text=4))
    assert table.number(0, "<h") == -1 and table.number(0, "<H") == 0xFFFF
    assert table.number(1, "<I") is None and not table.has(1)
    assert table.table(1) is None and table.tables(1, 9) == []
    assert bytes(table.bytes(2)) == b"abc" and bytes(table.bytes(7)) == b""
    assert table.array(2, "u1").tolist() == [97, 98, 99]
    assert table.present() == [0, 2]


@pytest.mark.parametrize(
    "spoilt, read",
    [
        ({"text": 4, "count": 99}, lambda table: table.bytes(2)),
        ({"text": 2**31}, lambda table: table.bytes(2)),
        ({"text": 4, "count": 2}, lambda table: table.array(2, "<f8")),
        ({"text": 2**30}, lambda table: table.table(2)),
        ({"fields": 2000}, lambda table: table.number(900, "<I")),
    ],
)
def test_what_points_behind_the_end_is_refused(spoilt, read):
    with pytest.raises(FileFormatError, match="it is corrupt: it points behind its"):
        read(root(small(**spoilt)))


def test_a_vector_of_too_many_tables_is_refused():
    with pytest.raises(FileFormatError, match="it has 3 entries where 2 may be"):
        root(small(text=4) + bytes(12)).tables(2, 2)


@pytest.mark.parametrize("size", [3, 9])
def test_a_list_of_fields_that_is_cut_off_is_refused(size):
    with pytest.raises(FileFormatError, match="list of a table's fields is cut off"):
        root(small(fields=size)).present()


def test_reading_the_same_bytes_has_an_end():
    table = root(small(text=4))
    with pytest.raises(FileFormatError, match="its tables share the same bytes"):
        for _ in range(READS_FLOOR):
            table.bytes(2)


def test_tables_that_share_bytes_again_and_again_are_refused():
    # One vector of a million offsets, all to the same table.
    count = 1_000_000
    vtable = struct.pack("<HHH", 6, 8, 4)
    root = 8
    buffer = bytearray(struct.pack("<I", root))
    buffer += b"TFL3"
    buffer += struct.pack("<iI", root - 16, 4)  # table: vtable at 16, field at 12
    buffer[root:] = struct.pack("<iI", root - 16, 16) + vtable + b"\0\0"
    buffer += b"\0" * 4 + struct.pack("<I", count)
    start = len(buffer)
    for number in range(count):
        buffer += struct.pack("<I", (2**32 + root - (start + 4 * number)) % 2**32)
    with pytest.raises(FileFormatError, match="corrupt"):
        FlatBuffer(bytes(buffer), "file").root().tables(0, 2_000_000)
