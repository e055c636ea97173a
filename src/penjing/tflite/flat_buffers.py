"""Reading FlatBuffers that may be corrupt or hostile."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from penjing.errors import FileFormatError

# A sound file is read about once. More than this many times its size means that
# its tables point to the same bytes again and again.
READS_PER_BYTE = 8
READS_FLOOR = 2**16
MARK = b"TFL3"
MAX_FILE_BYTES = 2**31 - 1  # Offsets are not larger.


def corrupt(where: str, reason: str) -> FileFormatError:
    """The error for a corrupt file."""
    return FileFormatError(f"{where} is corrupt: {reason}. Export or copy it again.")


def check_mark(data: bytes | bytearray, where: str) -> None:
    """Refuse what is no `.tflite` file, going by its mark."""
    if data[4:8] != MARK:
        raise FileFormatError(
            f"{where} is not a .tflite file (it lacks the mark {MARK.decode()} at byte "
            "4). Write one with penjing.export_litert."
        )


class FlatBuffer:
    """Bytes of a FlatBuffer; every offset and length in them is checked.

    What is no `.tflite` file is a FileFormatError.

    Reference:
        https://flatbuffers.dev/internals/
    """

    def __init__(self, data: bytes | bytearray, where: str) -> None:
        check_mark(data, where)
        self.data = memoryview(data)
        self.where = where
        self._budget = READS_FLOOR + READS_PER_BYTE * len(data)

    def root(self) -> Table:
        """The table that all others hang from."""
        return Table(self, self.number("<I", 0))

    def number(self, code: str, position: int) -> Any:
        """Unpack one number, `code` being that of `struct`."""
        size = struct.calcsize(code)
        self.check(position, size)
        return struct.unpack_from(code, self.data, position)[0]

    def check(self, position: int, size: int) -> None:
        """Refuse to read bytes that do not exist, or too many in all."""
        if position < 0 or size < 0 or position + size > len(self.data):
            raise self.error("it points behind its own end")
        self.spend(size)

    def spend(self, size: int) -> None:
        """Count bytes that are looked at; a bound keeps hostile files cheap."""
        self._budget -= size
        if self._budget < 0:
            raise self.error("its tables share the same bytes too often")

    def error(self, reason: str) -> FileFormatError:
        """The error for a corrupt file."""
        return corrupt(self.where, reason)


class Table:
    """One table of a FlatBuffer, from its first byte."""

    def __init__(self, buffer: FlatBuffer, position: int) -> None:
        self._buffer = buffer
        self._position = position
        self._fields = position - buffer.number("<i", position)
        self._fields_size = buffer.number("<H", self._fields)

    def number(self, field: int, code: str) -> Any:
        """A number or a boolean as it is, None where the field is absent."""
        position = self._find(field)
        return None if position is None else self._buffer.number(code, position)

    def present(self) -> list[int]:
        """The fields that are there; a FileFormatError if their list is corrupt."""
        if self._fields_size < 4 or self._fields_size % 2:
            raise self._buffer.error("the list of a table's fields is cut off")
        slots = range((self._fields_size - 4) // 2)
        return [slot for slot in slots if self._find(slot) is not None]

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return self._find(field) is not None

    def table(self, field: int) -> Table | None:
        """A table, None where the field is absent."""
        position = self._find(field)
        return None if position is None else Table(self._buffer, self._follow(position))

    def tables(self, field: int, limit: int) -> list[Table]:
        """A vector of at most `limit` tables; a FileFormatError if more, or corrupt."""
        start, count = self._vector(field, 4)
        if count > limit:
            raise self._buffer.error(f"it has {count:,} entries where {limit:,} may be")
        positions = (start + 4 * n for n in range(count))
        return [Table(self._buffer, self._follow(p)) for p in positions]

    def bytes(self, field: int) -> memoryview:
        """A vector of bytes."""
        start, count = self._vector(field, 1)
        return self._buffer.data[start : start + count]

    def array(self, field: int, dtype: str) -> np.ndarray[Any, Any]:
        """A vector of numbers, `dtype` being NumPy's little-endian name."""
        size = np.dtype(dtype).itemsize
        start, count = self._vector(field, size)
        data = self._buffer.data[start : start + count * size]
        return np.frombuffer(data, dtype)

    def _find(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._fields_size:
            return None
        offset = self._buffer.number("<H", self._fields + entry)
        return self._position + offset if offset else None

    def _follow(self, position: int) -> int:
        return position + int(self._buffer.number("<I", position))

    def _vector(self, field: int, item_size: int) -> tuple[int, int]:
        position = self._find(field)
        if position is None:
            return 0, 0
        start = self._follow(position)
        count = int(self._buffer.number("<I", start))
        self._buffer.check(start + 4, count * item_size)
        return start + 4, count
