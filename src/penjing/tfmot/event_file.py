"""Writing scalars in the file format that TensorBoard reads."""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_CASTAGNOLI = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_counter = itertools.count()


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _crc_table()


class EventFile:
    """An append-only file of scalars, one in each folder and run.

    It needs neither TensorFlow nor TensorBoard: an event is a small protocol buffer
    in a record that carries its length and two CRC-32C checksums.

    Args:
        folder: Folder for the file; made if it is missing.

    Reference:
        The comments of `event.proto` and `record_writer.cc` in
        https://github.com/tensorflow/tensorflow
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        stamp = f"{int(time.time()):010d}.{os.getpid()}.{next(_counter)}"
        self.path = Path(folder) / f"events.out.tfevents.{stamp}.penjing"
        self._append(_event(_text(3, b"brain.Event:2")))

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append one event.

        Args:
            values: Tag -> value.
            step: Place on TensorBoard's horizontal axis.
        """
        summary = b"".join(
            _text(1, _text(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in values.items()
        )
        self._append(_event(b"\x10" + _varint(step) + _text(5, summary)))

    def _append(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        with self.path.open("ab") as file:
            file.write(length + _masked_crc(length) + data + _masked_crc(data))


def _event(fields: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", time.time()) + fields


def _text(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _masked_crc(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + _MASK_DELTA) & 0xFFFFFFFF)
