"""The file that TensorBoard reads, taken apart by hand."""

from __future__ import annotations

import struct

import pytest

from penjing.tfmot.pruning_callbacks import EventFile

pytestmark = pytest.mark.once


def crc32c(data):
    """CRC-32C, bit by bit, from the definition in RFC 3720."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def unmasked(masked):
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def read_records(path):
    data, records = path.read_bytes(), []
    while data:
        length, head = struct.unpack("<QI", data[:12])
        body, (tail,) = (
            data[12 : 12 + length],
            struct.unpack("<I", data[12 + length : 16 + length]),
        )
        assert unmasked(head) == crc32c(data[:8])
        assert unmasked(tail) == crc32c(body)
        records.append(body)
        data = data[16 + length :]
    return records


def read_fields(message):
    fields = []
    while message:
        key, message = read_varint(message)
        kind = key & 7
        if kind == 0:
            value, message = read_varint(message)
        else:
            length = {1: 8, 5: 4}.get(kind)
            if length is None:
                length, message = read_varint(message)
            value, message = message[:length], message[length:]
        fields.append((key >> 3, value))
    return fields


def read_varint(data):
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, data[place + 1 :]
    raise AssertionError("no end")


def read_scalars(path):
    """(step, tag, value) of every scalar in an event file."""
    scalars = []
    for record in read_records(path)[1:]:
        fields = dict(read_fields(record))
        for _, value in read_fields(fields[5]):
            parts = dict(read_fields(value))
            number = struct.unpack("<f", parts[2])[0]
            scalars.append((fields[2], parts[1].decode(), number))
    return scalars


def test_the_checksum_of_the_reader_is_the_standards():
    assert crc32c(b"123456789") == 0xE3069283


def test_a_file_begins_with_its_version(tmp_path):
    path = EventFile(tmp_path / "new" / "run").path
    assert path.name.startswith("events.out.tfevents.")
    (record,) = read_records(path)
    assert dict(read_fields(record))[3] == b"brain.Event:2"


def test_scalars_come_back(tmp_path):
    file = EventFile(tmp_path)
    file.add_scalars({"dense/mask/sparsity": 0.75, "loss": -2.0}, step=0)
    file.add_scalars({"loss": 1.5}, step=70_000)
    assert read_scalars(file.path) == [
        (0, "dense/mask/sparsity", 0.75),
        (0, "loss", -2.0),
        (70_000, "loss", 1.5),
    ]


def test_two_files_of_one_folder_differ(tmp_path):
    assert EventFile(tmp_path).path != EventFile(tmp_path).path
