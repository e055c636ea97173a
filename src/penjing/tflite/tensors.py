"""The constant tensors of a model, as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from penjing.tflite.records import Record

FLOAT32, FLOAT16, INT32, INT8 = 0, 1, 2, 9


def all_tensors(model: Record) -> Iterator[Record]:
    """The tensors of all graphs."""
    for graph in model["subgraphs"]:
        yield from graph["tensors"]


def data_of(model: Record, tensor: Record) -> np.ndarray[Any, Any]:
    """The stored bytes of a tensor, none where it is no constant."""
    data: np.ndarray[Any, Any] = model["buffers"][tensor["buffer"]]["data"]
    return data


def is_plain(model: Record, tensor: Record) -> bool:
    """Whether a tensor is a dense constant whose numbers stand one by one."""
    name, numpy_type = TENSOR_TYPES[tensor["type"]]
    return bool(
        len(data_of(model, tensor))
        and numpy_type is not None
        and name not in PACKED_BITS
        and not tensor["sparsity"]
        and not tensor["is_variable"]
    )


def values_of(model: Record, tensor: Record) -> np.ndarray[Any, Any]:
    """The numbers of a tensor that `is_plain`, in its shape."""
    numpy_type = TENSOR_TYPES[tensor["type"]][1]
    data = np.ascontiguousarray(data_of(model, tensor))
    return np.asarray(data.view(numpy_type).reshape(tensor["shape"]))


def set_values(model: Record, tensor: Record, values: np.ndarray[Any, Any]) -> None:
    """Give a tensor new numbers, in a buffer of its own."""
    data = np.frombuffer(np.ascontiguousarray(values).tobytes(), "u1")
    model["buffers"] = [*model["buffers"], Record("Buffer", data=data)]
    tensor["buffer"] = len(model["buffers"]) - 1


def clear_negative_zeros(model: Record) -> None:
    """Write -0.0, which masks leave behind, as 0.0, in place."""
    for tensor in all_tensors(model):
        if tensor["type"] in (FLOAT32, FLOAT16) and is_plain(model, tensor):
            values = values_of(model, tensor)
            if (np.signbit(values) & (values == 0)).any():
                set_values(model, tensor, np.where(values == 0, 0, values))


def use_counts(model: Record) -> Counter[int]:
    """How often each buffer is read: by an operator, or as an output of a graph."""
    counts: Counter[int] = Counter()
    for graph in model["subgraphs"]:
        tensors = graph["tensors"]
        read = [n for operator in graph["operators"] for n in operator["inputs"]]
        for number in (*read, *graph["outputs"], *graph["inputs"]):
            if number >= 0:
                counts[tensors[number]["buffer"]] += 1
    return counts


def operator_code(model: Record, operator: Record) -> int:
    """The schema's number of an operator: old files keep it in another field."""
    code = model["operator_codes"][operator["opcode_index"]]
    return max(int(code["builtin_code"]), int(code["deprecated_builtin_code"]))


# The schema's number of a type: its name, and how NumPy reads it (None: not as
# numbers). Types of fewer than 8 bits are packed, the lowest bits first.
TENSOR_TYPES: dict[int, tuple[str, Any]] = {
    0: ("float32", "<f4"),
    1: ("float16", "<f2"),
    2: ("int32", "<i4"),
    3: ("uint8", "u1"),
    4: ("int64", "<i8"),
    5: ("string", None),
    6: ("bool", "u1"),
    7: ("int16", "<i2"),
    8: ("complex64", "<c8"),
    9: ("int8", "i1"),
    10: ("float64", "<f8"),
    11: ("complex128", "<c16"),
    12: ("uint64", "<u8"),
    13: ("resource", None),
    14: ("variant", None),
    15: ("uint32", "<u4"),
    16: ("uint16", "<u2"),
    17: ("int4", "i1"),
    18: ("bfloat16", ml_dtypes.bfloat16),
    19: ("int2", "i1"),
    20: ("uint4", "u1"),
    21: ("float8_e4m3fn", ml_dtypes.float8_e4m3fn),
    22: ("float8_e5m2", ml_dtypes.float8_e5m2),
}
PACKED_BITS = {"int4": 4, "uint4": 4, "int2": 2}


def empty_unused_buffers(model: Record) -> None:
    """Take the bytes out of buffers that no tensor has any more.

    Args:
        model: The table of a model, which is changed.
    """
    used = {
        int(tensor["buffer"])
        for graph in model["subgraphs"]
        for tensor in graph["tensors"]
    }
    used |= {int(entry["buffer"]) for entry in model["metadata"]}
    used |= set(map(int, model["metadata_buffer"]))
    model["buffers"] = [
        buffer if i in used else Record("Buffer")
        for i, buffer in enumerate(model["buffers"])
    ]
