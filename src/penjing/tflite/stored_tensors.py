"""The tensors that a `.tflite` file stores, read without running it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.files import read_bytes
from penjing.tflite.flat_buffers import FlatBuffer, Table
from penjing.tflite.tensors import TensorType, unpack

MAX_FILE_BYTES = 2**31 - 1  # A FlatBuffer cannot be larger.
MAX_ENTRIES = 1_000_000
MAX_RANK = 32  # of NumPy before 2.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoredTensor:
    """A tensor with data in the file.

    Attributes:
        name: Name in the file.
        shape: Shape.
        dtype: Type, one of NumPy's names or "int4", "uint4", "int2", "string".
        values: The stored numbers, flat; fewer than `shape` holds where the tensor
            is sparse. None where they are no numbers.
        zero: What stands for 0: a number, or an array to compare `values` with.
        data: The stored bytes, with the indices of a sparse tensor.
        is_sparse: Whether zeros are left out.
        num_scales: Scales of its quantization, 0 where it is not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    values: np.ndarray[Any, Any] | None
    zero: Any
    data: bytes | memoryview
    is_sparse: bool
    num_scales: int


def read_tflite(path: Path) -> list[StoredTensor]:
    """Read the tensors of a `.tflite` file that have data.

    Args:
        path: The file, at most 2**31 - 1 bytes.

    Returns:
        Its tensors in the file's order; those that share bytes come once.

    Raises:
        FileFormatError: If the file is missing, too large or corrupt.
    """
    content = read_bytes(path, MAX_FILE_BYTES)
    if content[4:8] != b"TFL3":
        raise FileFormatError(
            f"{path} is not a .tflite file: it lacks the mark TFL3 at byte 4. Write "
            "one with penjing.export_litert."
        )
    buffer = FlatBuffer(content, str(path))
    return list(_stored(buffer, buffer.root()))


def _stored(buffer: FlatBuffer, model: Table) -> Iterator[StoredTensor]:
    data = _read_buffers(buffer, model)
    seen = set()
    for graph in model.tables(2, MAX_ENTRIES):
        for table in graph.tables(0, MAX_ENTRIES):
            index = table.scalar(2, "<I")
            if index >= len(data):
                raise buffer.error(f"a tensor uses buffer {index:,} of {len(data):,}")
            if len(data[index]) and index not in seen:
                seen.add(index)
                yield _read_tensor(buffer, table, data[index])


def _read_buffers(buffer: FlatBuffer, model: Table) -> list[memoryview]:
    found = []
    for table in model.tables(4, MAX_ENTRIES):
        offset = table.scalar(1, "<Q")
        if offset > 1:  # Large files keep the bytes behind the tables.
            size = table.scalar(2, "<Q")
            buffer.check(offset, size)
            found.append(buffer.data[offset : offset + size])
        else:
            found.append(table.bytes(0))
    if sum(map(len, found)) > len(buffer.data):
        raise buffer.error("its buffers overlap")
    return found


def _read_tensor(buffer: FlatBuffer, table: Table, data: memoryview) -> StoredTensor:
    name = table.text(3) or "(no name)"
    shape = tuple(int(size) for size in table.array(0, "<i4"))
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise buffer.error(f"the tensor {name!r} has the shape {shape[:MAX_RANK]}")
    number = table.scalar(1, "b")
    if number not in set(TensorType):
        raise buffer.error(f"the tensor {name!r} is of the unknown type {number}")
    kind = TensorType(number)
    indices = _sparse_indices(buffer, table)
    values = None
    if kind.bits:
        count = None if indices is not None else math.prod(shape)
        values = _unpack(buffer, data, kind, count, name)
        if values.size > math.prod(shape):
            raise buffer.error(f"the tensor {name!r} holds more than its shape")
    quantization = table.table(4)
    scales = 0 if quantization is None else len(quantization.array(2, "<f4"))
    return StoredTensor(
        name=name,
        shape=shape,
        dtype=kind.dtype,
        values=values,
        zero=_zero(quantization, shape, values),
        data=data if indices is None else bytes(data) + indices,
        is_sparse=indices is not None,
        num_scales=scales,
    )


def _unpack(
    buffer: FlatBuffer,
    data: memoryview,
    kind: TensorType,
    count: int | None,
    name: str,
) -> np.ndarray[Any, Any]:
    bits = kind.bits
    if count is None:
        count = 8 * len(data) // bits
    if len(data) != -(-count * bits // 8):
        raise buffer.error(
            f"the tensor {name!r} has {count:,} values of {bits} bits, but "
            f"{len(data):,} bytes"
        )
    if not kind.is_packed:
        return np.frombuffer(data, kind.numpy_type, count)
    codes = unpack(np.frombuffer(data, "u1"), bits)[:count]
    if kind.numpy_type == "u1":
        return np.asarray(codes)
    half = 2 ** (bits - 1)
    return np.asarray((codes ^ half).astype("i1") - half, "i1")


def _zero(
    quantization: Table | None,
    shape: tuple[int, ...],
    values: np.ndarray[Any, Any] | None,
) -> Any:
    """Zero point, one for the tensor or one for each value along an axis."""
    if quantization is None or values is None or values.dtype.kind not in "iu":
        return 0
    points = quantization.array(3, "<i8")
    if not points.any():
        return 0
    if len(points) == 1:
        return int(points[0])
    axis = quantization.scalar(6, "<i")
    if values.size != math.prod(shape) or not 0 <= axis < len(shape):
        return 0
    if shape[axis] != len(points):
        return 0
    aligned = points.reshape([-1 if n == axis else 1 for n in range(len(shape))])
    return np.broadcast_to(aligned, shape).reshape(-1)


def _sparse_indices(buffer: FlatBuffer, table: Table) -> bytes | None:
    """Bytes that say where the values of a sparse tensor stand."""
    sparsity = table.table(6)
    if sparsity is None:
        return None
    parts = []
    for dimension in sparsity.tables(2, 2 * MAX_RANK):
        for kind, field in ((2, 3), (4, 5)):  # segments and indices
            holder = dimension.table(field)
            width = {1: 4, 2: 2, 3: 1}.get(dimension.scalar(kind, "B"))
            if holder is not None and width is not None:
                parts.append(holder.array(0, f"<u{width}").tobytes())
    return b"".join(parts)
