"""The constant tensors of a model, as arrays."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import ml_dtypes
import numpy as np

from penjing.tflite.records import Record

_NUMBERED = re.compile(r"output_(\d{1,9})")


class TensorType(enum.IntEnum):
    """The schema's type of a tensor, and how NumPy reads it; None: not as numbers.

    Numbers of fewer than 8 bits are packed, the lowest bits first.
    """

    numpy_type: Any
    bits: int

    def __new__(cls, number: int, numpy_type: Any = None, bits: int = 0) -> TensorType:
        """Make a member of a number and what it means to NumPy."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.numpy_type = numpy_type
        member.bits = bits or (8 * np.dtype(numpy_type).itemsize if numpy_type else 0)
        return member

    FLOAT32 = 0, "<f4"
    FLOAT16 = 1, "<f2"
    INT32 = 2, "<i4"
    UINT8 = 3, "u1"
    INT64 = 4, "<i8"
    STRING = 5
    BOOL = 6, "u1"
    INT16 = 7, "<i2"
    COMPLEX64 = 8, "<c8"
    INT8 = 9, "i1"
    FLOAT64 = 10, "<f8"
    COMPLEX128 = 11, "<c16"
    UINT64 = 12, "<u8"
    RESOURCE = 13
    VARIANT = 14
    UINT32 = 15, "<u4"
    UINT16 = 16, "<u2"
    INT4 = 17, "i1", 4
    BFLOAT16 = 18, ml_dtypes.bfloat16
    INT2 = 19, "i1", 2
    UINT4 = 20, "u1", 4
    FLOAT8_E4M3FN = 21, ml_dtypes.float8_e4m3fn
    FLOAT8_E5M2 = 22, ml_dtypes.float8_e5m2

    @property
    def dtype(self) -> str:
        """Its name in small letters, as NumPy's where NumPy knows it."""
        return self.name.lower()

    @property
    def is_packed(self) -> bool:
        """Whether several numbers share a byte."""
        return 0 < self.bits < 8


_TEXT_BYTES = 1000
FLOATS = (TensorType.FLOAT32, TensorType.FLOAT16)


def all_tensors(model: Record) -> Iterator[Record]:
    """The tensors of all graphs."""
    for graph in model["subgraphs"]:
        yield from graph["tensors"]


def data_of(model: Record, tensor: Record) -> np.ndarray[Any, Any]:
    """The stored bytes of a tensor, none where it is no constant."""
    data: np.ndarray[Any, Any] = model["buffers"][tensor["buffer"]]["data"]
    return data


def tensor_name(tensor: Record) -> str:
    """What a file calls a tensor, cut where it is very long."""
    name = bytes(tensor["name"])[:_TEXT_BYTES]
    return name.decode("utf-8", "replace") or "(no name)"


def is_plain(model: Record, tensor: Record) -> bool:
    """Whether a tensor is a dense constant whose numbers stand one by one."""
    kind = TensorType(tensor["type"])
    return bool(
        len(data_of(model, tensor))
        and kind.bits >= 8
        and not tensor["sparsity"]
        and not tensor["is_variable"]
    )


def values_of(model: Record, tensor: Record) -> np.ndarray[Any, Any]:
    """The numbers of a tensor that `is_plain`, in its shape."""
    numpy_type = TensorType(tensor["type"]).numpy_type
    data = np.ascontiguousarray(data_of(model, tensor))
    return np.asarray(data.view(numpy_type).reshape(tensor["shape"]))


def is_quantized(tensor: Record) -> bool:
    """Whether its integers stand for real numbers."""
    table = tensor["quantization"]
    return table is not None and len(table["scale"]) > 0


def set_values(model: Record, tensor: Record, values: np.ndarray[Any, Any]) -> None:
    """Give a tensor new numbers, in a buffer of its own."""
    data = np.frombuffer(np.ascontiguousarray(values).tobytes(), "u1")
    model["buffers"] = [*model["buffers"], Record("Buffer", data=data)]
    tensor["buffer"] = len(model["buffers"]) - 1


def clear_negative_zeros(model: Record) -> None:
    """Write -0.0, which masks leave behind, as 0.0, in place."""
    for tensor in all_tensors(model):
        if tensor["type"] in FLOATS and is_plain(model, tensor):
            values = values_of(model, tensor)
            if (np.signbit(values) & (values == 0)).any():
                set_values(model, tensor, np.where(values == 0, 0, values))


def unpack(data: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Numbers of fewer than 8 bits, each in a byte, as they are without a sign."""
    shifts = np.arange(0, 8, bits, dtype="u1")
    return np.asarray((data[:, None] >> shifts & (2**bits - 1)).reshape(-1))


def use_counts(model: Record) -> Counter[int]:
    """How often each buffer is read: by an operator, or as an output of a graph."""
    counts: Counter[int] = Counter()
    for graph in model["subgraphs"]:
        read = [n for operator in graph["operators"] for n in operator["inputs"]]
        ends = (*read, *graph["outputs"], *graph["inputs"])
        counts.update(graph["tensors"][n]["buffer"] for n in ends if n >= 0)
    return counts


def make_scales(
    scales: np.ndarray[Any, Any], channel_axis: int | None = None
) -> Record:
    """The table that says what integers stand for: `real = scale * integer`.

    It goes into a tensor's field `quantization`. There is one scale, or with a
    `channel_axis` one for each channel.
    """
    table = Record(
        "QuantizationParameters",
        scale=scales.astype("float32"),
        zero_point=np.zeros(scales.size, "int64"),
    )
    if channel_axis:  # 0 is the default
        table["quantized_dimension"] = channel_axis
    return table


def are_numbered(names: Collection[str]) -> bool:
    """Whether all outputs are called as Keras calls those of a list: `output_0`, ..."""
    return bool(names) and all(map(_NUMBERED.fullmatch, names))


def output_number(name: str) -> int:
    """The number of an output that has one; it says its place among all."""
    return int(name.removeprefix("output_"))
