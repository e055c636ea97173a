"""Records into the bytes of a FlatBuffer, with nothing written twice."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.tflite.flat_buffers import MARK, MAX_FILE_BYTES
from penjing.tflite.records import Record
from penjing.tflite.table_layouts import UNIONS

_FILE_ALIGNMENT = 16
_HEADER = 8  # offset of the root, and the mark


def write_records(model: Record, *, share: bool = True) -> bytes:
    """Write a model as a `.tflite` file: what `read_records` gave, or a changed copy.

    With `share`, equal tables, vectors and texts are written once. Without it only the
    lists of fields are shared, and each table lies beside what it points to, which a
    compressor may like better. More bytes than a FlatBuffer can hold are a
    FileFormatError.
    """
    writer = _Writer(share)
    root = writer.record(model)
    writer.pad(_HEADER, _FILE_ALIGNMENT)
    offset = writer.size + _HEADER - root
    writer.put(struct.pack("<I", offset) + MARK)
    if writer.size > MAX_FILE_BYTES:
        raise FileFormatError(
            f"The file would have {writer.size:,} bytes; a .tflite file has at most "
            f"{MAX_FILE_BYTES:,}."
        )
    return writer.data()


class _Writer:
    """Bytes written from the end to the start, so that children come before parents.

    A place is the number of bytes from it to the end of the file.
    """

    def __init__(self, share: bool) -> None:
        self.size = 0
        self._share = share
        self._parts: list[bytes] = []
        self._places: dict[Any, int] = {}
        self._field_lists: dict[bytes, int] = {}

    def data(self) -> bytes:
        return b"".join(reversed(self._parts))

    def put(self, part: bytes) -> int:
        self._parts.append(part)
        self.size += len(part)
        return self.size

    def pad(self, length: int, alignment: int) -> None:
        """Make the start of the next `length` bytes a multiple of `alignment`."""
        self.put(bytes(-(self.size + length) % alignment))

    def vector(self, items: bytes, count: int, alignment: int) -> int:
        key = (items, count, alignment)
        if not self._share or key not in self._places:
            self.pad(len(items), max(alignment, 4))
            self.put(items)
            self._places[key] = self.put(struct.pack("<I", count))
        return self._places[key]

    def references(self, places: list[int]) -> int:
        """Write a vector of offsets to what was written before."""
        key = ("references", *places)
        if not self._share or key not in self._places:
            self.pad(4 * len(places), 4)
            start = self.size + 4 * len(places)
            offsets = [start - 4 * n - place for n, place in enumerate(places)]
            self.put(struct.pack(f"<{len(places)}I", *offsets))
            self._places[key] = self.put(struct.pack("<I", len(places)))
        return self._places[key]

    def record(self, record: Record) -> int:
        """Write what a table points to, the last first, then the table."""
        slots: dict[int, tuple[str, Any]] = {}
        for field, value in reversed(list(record.items())):
            if field.kind == "scalar":
                if value != field.default or record.kind not in _WITH_KNOWN_DEFAULTS:
                    slots[field.slot] = ("<" + field.type, value)
            elif field.kind == "union":
                slots[field.slot] = ("<B", UNIONS[field.type].index(value.kind) + 1)
                slots[field.slot + 1] = ("offset", self.record(value))
            else:
                slots[field.slot] = ("offset", self._pointed_to(field, value))
        return self._table(slots)

    def _pointed_to(self, field: Any, value: Any) -> int:
        if field.kind == "table":
            return self.record(value)
        if field.kind == "tables":
            places = [self.record(item) for item in reversed(value)]
            return self.references(places[::-1])
        if field.kind == "text":
            return self.vector(value + b"\0", len(value), 1)
        array = np.ascontiguousarray(value)
        return self.vector(array.tobytes(), len(array), field.alignment)

    def _table(self, slots: dict[int, tuple[str, Any]]) -> int:
        key = ("table", *sorted((n, *entry) for n, entry in slots.items()))
        if self._share and key in self._places:
            return self._places[key]
        starts, length, alignment = _placed(slots)
        offsets = [starts.get(slot, 0) for slot in range(max(slots, default=-1) + 1)]
        fields = struct.pack(
            f"<{2 + len(offsets)}H", 4 + 2 * len(offsets), length, *offsets
        )
        if fields not in self._field_lists:
            self.pad(len(fields), 2)
            self._field_lists[fields] = self.put(fields)
        self.pad(length, alignment)
        place = self.size + length
        table = bytearray(length)
        struct.pack_into("<i", table, 0, self._field_lists[fields] - place)
        for slot, (code, value) in slots.items():
            if code == "offset":
                code, value = "<I", place - starts[slot] - value
            struct.pack_into(code, table, starts[slot], value)
        self._places[key] = self.put(bytes(table))
        return place


# Of options only what is there is known, so they are written as they were.
_WITH_KNOWN_DEFAULTS = {"Model", "SubGraph", "Tensor", "Operator", "OperatorCode"}


def _placed(slots: dict[int, tuple[str, Any]]) -> tuple[dict[int, int], int, int]:
    """Where the fields of a table lie, its length and its alignment."""
    sizes = {
        slot: 4 if code == "offset" else struct.calcsize(code)
        for slot, (code, _) in slots.items()
    }
    starts, end = {}, 4
    for slot in sorted(slots, key=lambda slot: (-sizes[slot], slot)):
        end += -end % sizes[slot]
        starts[slot] = end
        end += sizes[slot]
    return starts, end, max([4, *sizes.values()])
