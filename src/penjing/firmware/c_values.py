"""Bytes, numbers and arrays as C++ writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

C_TYPES = {
    "bool": "bool",
    "float32": "float",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "int8": "int8_t",
    "uint8": "uint8_t",
}
"""NumPy's name of a type -> that of C++."""

_BYTES = [f"0x{value:02x}" for value in range(256)]
_BYTES_IN_A_LINE = 12
_VALUES_IN_A_LINE = 8


def byte_lines(content: bytes) -> str:
    """The lines of an array of bytes."""
    return _lines((_BYTES[value] for value in content), _BYTES_IN_A_LINE)


def value_lines(values: np.ndarray[Any, Any]) -> str:
    """The lines of an array of numbers, in the order in which they lie in memory."""
    flat = np.ascontiguousarray(values).reshape(-1)
    write = _float if flat.dtype.kind == "f" else _integer
    return _lines(map(write, flat.tolist()), _VALUES_IN_A_LINE)


def float_text(value: float) -> str:
    """A float, all digits that it has.

    Example:
        >>> float_text(0.5), float_text(3.0), float_text(0.1)
        ('0.5f', '3.0f', '0.100000001f')
    """
    return _float(float(np.float32(value)))


def _float(value: float) -> str:
    if not math.isfinite(value):
        sign = "-" if value < 0 else ""
        kind = "quiet_NaN" if math.isnan(value) else "infinity"
        return f"{sign}std::numeric_limits<float>::{kind}()"
    text = f"{value:.9g}"
    return f"{text}f" if any(c in text for c in ".e") else f"{text}.0f"


def _integer(value: int) -> str:
    if value == -(2**63):  # C++ reads the sign and the number one after the other
        return "INT64_MIN"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lines(words: Iterable[str], count: int) -> str:
    return "\n".join(_chunks(iter(words), count))


def _chunks(words: Iterator[str], count: int) -> Iterator[str]:
    while chunk := list(islice(words, count)):
        yield f"    {', '.join(chunk)},"
