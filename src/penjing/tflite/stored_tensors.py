"""The tensors that a `.tflite` file stores, read without running it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from penjing.tflite.loading import load_tensors, read_litert
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, all_tensors, data_of, tensor_name, unpack


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoredTensor:
    """A tensor with data in the file.

    Attributes:
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
    data: bytes
    is_sparse: bool
    num_scales: int


def read_tflite(path: Path) -> list[StoredTensor]:
    """Read the tensors with data of a `.tflite` file of at most 2**31 - 1 bytes.

    They come in the file's order; those that share bytes come once. A file that is
    missing, too large or corrupt is a FileFormatError.
    """
    return stored_tensors(read_litert(path), str(path))


def stored_tensors(content: bytes, where: str) -> list[StoredTensor]:
    """Read the tensors in the bytes of a file; see `read_tflite`."""
    model = load_tensors(content, where)
    first: dict[int, Record] = {}
    for tensor in all_tensors(model):
        if len(data_of(model, tensor)):
            first.setdefault(tensor["buffer"], tensor)
    return [_stored(model, tensor) for tensor in first.values()]


def numbers_of(model: Record, tensor: Record) -> np.ndarray[Any, Any] | None:
    """The numbers of a dense constant in its shape, packed ones too; else None."""
    kind, data = TensorType(tensor["type"]), data_of(model, tensor)
    shape = tuple(int(size) for size in tensor["shape"])
    if not kind.bits or not len(data) or tensor["sparsity"]:
        return None
    values = _numbers(np.ascontiguousarray(data), kind, math.prod(shape))
    return values.reshape(shape) if values.size == math.prod(shape) else None


def _stored(model: Record, tensor: Record) -> StoredTensor:
    shape = tuple(int(size) for size in tensor["shape"])
    kind, sparsity = TensorType(tensor["type"]), tensor["sparsity"]
    data = np.ascontiguousarray(data_of(model, tensor))
    values = None
    if kind.bits:
        count = min(8 * len(data) // kind.bits, math.prod(shape))
        values = _numbers(data, kind, count)
    quantization = tensor["quantization"] or Record("QuantizationParameters")
    return StoredTensor(
        name=tensor_name(tensor),
        shape=shape,
        dtype=kind.dtype,
        values=values,
        zero=_zero(quantization, shape, values),
        data=data.tobytes() + (_indices(sparsity) if sparsity else b""),
        is_sparse=sparsity is not None,
        num_scales=len(quantization["scale"]),
    )


def _numbers(
    data: np.ndarray[Any, Any], kind: TensorType, count: int
) -> np.ndarray[Any, Any]:
    if not kind.is_packed:
        return np.asarray(data.view(kind.numpy_type))
    codes = unpack(data, kind.bits)[:count]
    if kind.numpy_type == "u1":
        return codes
    half = 2 ** (kind.bits - 1)
    return np.asarray((codes ^ half).astype("i1") - half, "i1")


def _zero(
    quantization: Record,
    shape: tuple[int, ...],
    values: np.ndarray[Any, Any] | None,
) -> Any:
    """Zero point, one for the tensor or one for each value along an axis."""
    points = quantization["zero_point"]
    if values is None or values.dtype.kind not in "iu" or not points.any():
        return 0
    if len(points) == 1:
        return int(points[0])
    axis = quantization["quantized_dimension"]
    if values.size != math.prod(shape) or not 0 <= axis < len(shape):
        return 0
    if shape[axis] != len(points):
        return 0
    aligned = points.reshape([-1 if n == axis else 1 for n in range(len(shape))])
    return np.broadcast_to(aligned, shape).reshape(-1)


def _indices(sparsity: Record) -> bytes:
    """Bytes that say where the values of a sparse tensor stand."""
    vectors = [
        dimension[name]
        for dimension in sparsity["dim_metadata"]
        for name in ("array_segments", "array_indices")
    ]
    return b"".join(vector["values"].tobytes() for vector in vectors if vector)
