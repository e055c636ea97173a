"""The forms in which a constant can be encoded, each as bytes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from penjing.packing.packable import Constant
from penjing.tflite.decode_records import (
    MAX_TABLE_BITS,
    encode_huffman,
    pack_bits,
    write_huffman,
    write_mask,
    write_table,
)
from penjing.tflite.huffman_tables import make_code

Array = np.ndarray[Any, Any]

_MOST_STEPS = 255  # between two tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """A constant in one of the forms.

    Attributes:
        form: "table", "tables" (one for each channel), "mask" or "huffman".
        bits: Bits of an index; 0 for other forms.
        data: The encoded numbers.
        ancillary: The header with the tables.
    """

    form: str
    bits: int = 0
    data: bytes
    ancillary: bytes

    @property
    def size(self) -> int:
        """Its bytes, without what operators and tensors take."""
        return len(self.data) + len(self.ancillary)


def all_forms(constant: Constant) -> list[Encoded]:
    """A constant in each form that it can have, the smallest first."""
    return sorted(_forms(constant), key=lambda encoded: encoded.size)


def _forms(constant: Constant) -> Iterator[Encoded]:
    levels = np.unique(constant.values)
    if constant.layout.has_channels:
        bits = _bits(len(levels))
        if bits <= MAX_TABLE_BITS:
            indices = np.searchsorted(levels, constant.values)
            yield _tabled(constant, "table", bits, indices, levels[None])
        if constant.layout.channels > 1:
            yield from _per_channel(constant, bits)
        if constant.layout.stored_as == "i1" or not constant.layout.zeros.any():
            yield _masked(constant)  # of others, decoders take 0 for zero alone
    if constant.layout.stored_as == "i1":
        yield from huffman([constant])


def _bits(levels: int) -> int:
    return max((levels - 1).bit_length(), 1)


def _tabled(
    constant: Constant, form: str, bits: int, indices: Array, tables: Array
) -> Encoded:
    return Encoded(
        form=form,
        bits=bits,
        data=pack_bits(indices, bits),
        ancillary=write_table(bits, tables, constant.layout),
    )


def _per_channel(constant: Constant, most_bits: int) -> Iterator[Encoded]:
    """A table for each channel, where its indices are shorter than with one for all."""
    layout = constant.layout
    shape = (-1, layout.channels) if layout.is_last else (layout.channels, -1)
    rows = constant.values.reshape(shape)
    rows = rows.T if layout.is_last else rows
    levels = [np.unique(row) for row in rows]
    stride = max(map(len, levels))
    bits = _bits(stride)
    if bits >= most_bits or bits > MAX_TABLE_BITS or stride > _MOST_STEPS:
        return
    tables = np.zeros((len(rows), stride), constant.values.dtype)
    indices = np.zeros(rows.shape, "i8")
    for channel, (row, found) in enumerate(zip(rows, levels, strict=True)):
        tables[channel, : len(found)] = found
        indices[channel] = np.searchsorted(found, row)
    flat = (indices.T if layout.is_last else indices).reshape(-1)
    yield _tabled(constant, "tables", bits, flat, tables)


def _masked(constant: Constant) -> Encoded:
    kept = ~constant.is_zero
    return Encoded(
        form="mask",
        data=pack_bits(kept.astype("i8"), 1),
        ancillary=write_mask(constant.values[kept], constant.layout),
    )


def huffman(constants: Sequence[Constant]) -> list[Encoded]:
    """Constants of int8 with one prefix code for all, which is then stored once."""
    code = make_code(_counts(constants))
    return [
        Encoded(
            form="huffman",
            data=encode_huffman(constant.values, code),
            ancillary=write_huffman(code),
        )
        for constant in constants
    ]


def huffman_size(constants: Sequence[Constant]) -> int:
    """Bytes of constants of int8 with one prefix code for all."""
    counts = _counts(constants)
    code = make_code(counts)
    bits = sum(code.lengths[symbol] * count for symbol, count in counts.items())
    return bits // 8 + len(write_huffman(code))


def _counts(constants: Sequence[Constant]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for constant in constants:
        counts.update(constant.counts)
    return counts
