"""Compressed constants of TensorFlow Lite Micro: what its operator DECODE reads.

DECODE, a custom operator, has two constant inputs for each of its outputs: the encoded
numbers, and a vector that starts with a header of 16 bytes and goes on with tables. How
numbers lie in the decoded tensor, its channels above all, is said by that tensor alone.

- A table: indices of 1 to 7 bits into one table, or into one for each channel.
- A mask: a bit for each number, and those behind the header that are not zero.
- Huffman: words of a prefix code, see `huffman_tables`.

Bits run from the most significant one down. LiteRT knows no such operator.

Reference:
    https://github.com/tensorflow/tflite-micro,
    `tensorflow/lite/micro/kernels/decode_state.h` and those beside it
"""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any, NoReturn

import numpy as np

from penjing.tflite.flat_buffers import corrupt
from penjing.tflite.huffman_tables import Code, decode_words, encode_words
from penjing.tflite.operators import Operator, number_of
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, tensor_name

Array = np.ndarray[Any, Any]

DECODE = b"TFLM_DECODE"
MAX_TABLE_BITS = 7
HEADER_BYTES = 16
_VERSION = 1
_ONE_TABLE = 15  # in place of an axis
_ALIGNMENT = 16  # Others may fill up what they write.
_MAX_VALUES = 2**29
# What decoders write, by the type of the decoded tensor; 0.0 has no bits set.
STORED_AS = {
    TensorType.FLOAT32: "<u4",
    TensorType.INT8: "i1",
    TensorType.INT16: "<i2",
    TensorType.INT32: "<i4",
    TensorType.INT64: "<i8",
}


class Form(enum.IntEnum):
    """How numbers are encoded: byte 0 of the header."""

    TABLE = 0
    HUFFMAN = 1
    MASK = 2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """How numbers lie in a decoded tensor, as the decoders see it.

    Attributes:
        count: How many there are.
        stored_as: Their type as NumPy names it; floats as the bits that they are.
        channels: How many channels there are tables for.
        is_last: Whether the channels change from number to number.
        axis: The axis of the channels.
        zeros: What stands for zero: one number, or one for each channel.
        has_channels: Whether tables and masks are possible: not along a middle axis.
    """

    count: int
    stored_as: str
    channels: int = 1
    is_last: bool = False
    axis: int = 0
    zeros: Array
    has_channels: bool = True

    def channel_of(self) -> Array:
        """For each number its channel."""
        places = np.arange(self.count)
        if self.is_last:
            return places % self.channels
        return places // max(self.count // self.channels, 1)


def layout_of(tensor: Record) -> Layout | None:
    """How numbers lie in a tensor; None where no decoder can write its type."""
    kind = TensorType(tensor["type"])
    if kind not in STORED_AS or tensor["sparsity"]:
        return None
    shape = tuple(int(size) for size in tensor["shape"])
    count = math.prod(shape)
    scales = tensor["quantization"] or Record("QuantizationParameters")
    channels, axis = max(len(scales["scale"]), 1), int(scales["quantized_dimension"])
    points = scales["zero_point"]
    is_read = len(points) and len(scales["scale"])  # one without the other is not
    points = np.asarray(points if is_read else [0], "i8")
    is_last = channels > 1 and axis == len(shape) - 1
    known = axis == 0 or is_last
    fits = channels == 1 or (0 <= axis < len(shape) and shape[axis] == channels)
    return Layout(
        count=count,
        stored_as=STORED_AS[kind],
        channels=channels,
        is_last=is_last,
        axis=axis,
        zeros=points if len(points) == channels else points[:1],
        has_channels=known and fits and axis < _ONE_TABLE,
    )


def write_table(bits: int, tables: Array, layout: Layout) -> bytes:
    """The header and the tables for indices, which `pack_bits` writes.

    Args:
        bits: Of an index, 1 to 7.
        tables: `(1, n)`, one table for all channels, or `(channels, n)`.
        layout: Of the decoded tensor.
    """
    rows, stride = tables.shape
    axis = _ONE_TABLE if rows == 1 else layout.axis
    # Where channels share a table, it is the same number of steps away: none.
    step = 0 if rows == 1 and layout.channels > 1 else stride
    head = bytes([_VERSION, axis << 4 | bits, step])
    return _header(Form.TABLE, head) + tables.astype(layout.stored_as).tobytes()


def write_mask(kept: Array, layout: Layout) -> bytes:
    """The header and the numbers that are not zero."""
    return (
        _header(Form.MASK, bytes([_VERSION])) + kept.astype(layout.stored_as).tobytes()
    )


def write_huffman(code: Code) -> bytes:
    """The header and the tables of a prefix code."""
    head = bytes([_VERSION, (code.width - 1) << 4])
    return _header(Form.HUFFMAN, head) + code.entries.tobytes()


def _header(form: Form, rest: bytes) -> bytes:
    return bytes([form, _VERSION, 0, 0]) + rest.ljust(HEADER_BYTES - 4, b"\0")


def pack_bits(numbers: Array, bits: int) -> bytes:
    """Write numbers of so many bits one behind the other.

    Example:
        >>> pack_bits(np.array([1, 2, 3]), 4).hex()
        '1230'
    """
    shifts = np.arange(bits - 1, -1, -1, dtype="u1")  # bytes: weights are many
    return np.packbits(numbers.astype("u1")[:, None] >> shifts & 1).tobytes()


def encode_huffman(values: Array, code: Code) -> bytes:
    """Write int8 numbers as words of a prefix code."""
    return encode_words(values, code)


def is_decode(model: Record, operator: Record) -> bool:
    """Whether an operator is TFLM's DECODE."""
    code = model["operator_codes"][operator["opcode_index"]]
    return bool(number_of(code) == Operator.CUSTOM and code["custom_code"] == DECODE)


def is_packed(model: Record) -> bool:
    """Whether a file holds constants that TFLM decodes, so that it alone runs it."""
    return any(
        is_decode(model, operator)
        for graph in model["subgraphs"]
        for operator in graph["operators"]
    )


def decoded(data: bytes, ancillary: bytes, tensor: Record, where: str) -> Array:
    """Decode what stands for a tensor.

    Args:
        data: The encoded numbers.
        ancillary: The header and what follows it.
        tensor: The decoded tensor, which has no data.
        where: What messages call the file.

    Returns:
        The numbers, flat, floats as the bits that they are.

    Raises:
        FileFormatError: If anything does not fit, or is of a form that TFLM does not
            know.
    """
    layout = layout_of(tensor)
    read = _Reading(data, ancillary, f"{where}, tensor {tensor_name(tensor)!r},")
    if layout is None or layout.count > _MAX_VALUES:
        read.fail("it decodes into a tensor that no decoder can write")
    return read.values(layout)


class _Reading:
    def __init__(self, data: bytes, ancillary: bytes, where: str) -> None:
        self._data, self._where = data, where
        self._head, self._rest = ancillary[:HEADER_BYTES], ancillary[HEADER_BYTES:]

    def fail(self, reason: str) -> NoReturn:
        raise corrupt(self._where, reason)

    def values(self, layout: Layout) -> Array:
        if len(self._head) < HEADER_BYTES:
            self.fail(f"its header has {len(self._head)} of {HEADER_BYTES} bytes")
        if self._head[1] != _VERSION or self._head[4] != _VERSION:
            self.fail(f"its version is {self._head[1]}.{self._head[4]}, not 1.1")
        forms = {
            Form.TABLE: self._from_tables,
            Form.HUFFMAN: self._from_words,
            Form.MASK: self._from_mask,
        }
        read = forms.get(Form(self._head[0])) if self._head[0] in set(Form) else None
        if read is None:
            self.fail(f"its form {self._head[0]} is none of 0, 1 and 2")
        return read(layout)

    def _bits(self, count: int, bits: int) -> Array:
        size = -(-count * bits // 8)
        if not size <= len(self._data) < size + _ALIGNMENT:
            self.fail(
                f"{count:,} numbers of {bits} bits take {size:,} bytes, it has "
                f"{len(self._data):,}"
            )
        found = np.unpackbits(np.frombuffer(self._data, "u1"))[: count * bits]
        return found.reshape(count, bits) @ (1 << np.arange(bits - 1, -1, -1))

    def _table_values(self, stored_as: str, count: int) -> Array:
        size = count * np.dtype(stored_as).itemsize
        if not size <= len(self._rest) < size + _ALIGNMENT:
            self.fail(f"{size:,} bytes are to follow its header, not {len(self._rest)}")
        return np.frombuffer(self._rest[:size], stored_as)

    def _from_tables(self, layout: Layout) -> Array:
        bits, step = self._head[5] & 0xF, self._head[6]
        if not 1 <= bits <= MAX_TABLE_BITS:
            self.fail(f"its indices have {bits} bits")
        self._check_channels(layout)
        indices = self._bits(layout.count, bits)
        if layout.channels > 1 and step:
            tables = self._table_values(layout.stored_as, layout.channels * step)
            self._check_indices(indices, step)
            return np.asarray(tables[layout.channel_of() * step + indices])
        item = np.dtype(layout.stored_as).itemsize
        tables = np.frombuffer(self._rest[: len(self._rest) // item * item], "u1")
        tables = tables.view(layout.stored_as)
        self._check_indices(indices, min(len(tables), 2**bits))
        return np.asarray(tables[indices])

    def _check_indices(self, indices: Array, size: int) -> None:
        if int(indices.max(initial=0)) >= size:
            self.fail(f"it reads entry {int(indices.max())} of {size}")

    def _check_channels(self, layout: Layout) -> None:
        if not layout.has_channels:
            self.fail("its scales run along an axis that no decoder knows")

    def _from_mask(self, layout: Layout) -> Array:
        self._check_channels(layout)
        kept = self._bits(layout.count, 1).astype(bool)
        values = self._table_values(layout.stored_as, int(kept.sum()))
        zeros = layout.zeros
        if len(zeros) > 1:
            zeros = zeros[layout.channel_of()]
        result = np.broadcast_to(zeros, layout.count).astype(layout.stored_as)
        result[kept] = values
        return result

    def _from_words(self, layout: Layout) -> Array:
        if layout.stored_as != "i1" or self._head[5] & 1:
            self.fail("it has words of a kind that penjing does not read")
        if len(self._rest) % 2 or len(self._data) % 4:
            self.fail("its words or tables are cut")
        entries = np.frombuffer(self._rest, "<u2")
        width = (self._head[5] >> 4) + 1
        return decode_words(self._data, entries, width, layout.count, self.fail)
