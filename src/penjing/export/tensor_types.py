"""The types of tensors in a `.tflite` file."""

from __future__ import annotations

from typing import Any

import ml_dtypes

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
