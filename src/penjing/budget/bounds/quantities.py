"""Sizes, times and drops as people write them: "20KB", "2ms", "30min", "1%"."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping
from typing import Any

_TEXT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Zµ%]*)\s*")
# As the makers of flash and RAM count, and firmware tools print: powers of 1,024.
_BYTES = {"": 1, "b": 1, "kb": 1024, "kib": 1024, "mb": 1024**2, "mib": 1024**2}
_LATENCY = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_TIME = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_COUNT = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}


def parse_bytes(name: str, value: Any) -> int:
    """Read bytes: a number of them, or a text such as "20KB", which is 20 x 1,024.

    Example:
        >>> parse_bytes("max_bytes", "20KB"), parse_bytes("max_bytes", 300)
        (20480, 300)
    """
    return _whole(name, value, _BYTES, 'bytes: 20000, or a text such as "20KB"')


def parse_count(name: str, value: Any) -> int:
    """Read a number of things, such as "5M".

    Example:
        >>> parse_count("max_macs", "2.5M")
        2500000
    """
    return _whole(name, value, _COUNT, 'a number: 5000000, or a text such as "5M"')


def parse_latency(name: str, value: Any) -> float:
    """Read the time of one inference, in seconds.

    Example:
        >>> parse_latency("max_latency", "2ms")
        0.002
    """
    return _number(name, value, _LATENCY, 'a time with its unit, such as "2ms"')


def parse_time(name: str, value: Any) -> float:
    """Read how long work may take, in seconds.

    Example:
        >>> parse_time("time", "30min")
        1800.0
    """
    return _number(name, value, _TIME, 'a time with its unit, such as "30min" or "2h"')


def _whole(name: str, value: Any, units: Mapping[str, float], form: str) -> int:
    number = _number(name, value, units, form)
    broken = number != int(number) and isinstance(value, numbers.Real)
    if broken or int(number) < 1:
        raise _refusal(name, value, form)
    return int(number)


def _number(name: str, value: Any, units: Mapping[str, float], form: str) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        value = str(value) if "" in units else None
    found = _TEXT.fullmatch(value) if isinstance(value, str) else None
    factor = units.get(found.group(2).lower()) if found else None
    number = float(found.group(1)) * factor if found and factor else 0.0
    if not 0.0 < number < math.inf:
        raise _refusal(name, value, form)
    return number


def _refusal(name: str, value: Any, form: str) -> ValueError:
    return ValueError(f"`{name}` must be {form}, got {value!r}.")


@dataclasses.dataclass(frozen=True)
class Drop:
    """How much worse a score may become.

    Args:
        amount: Hundredths of a metric that goes from 0 to 1 ("points"); a fraction of
            the score before, where it is `relative`.
        relative: Which of the two.

    Example:
        >>> Drop.parse("0.5"), Drop.parse("2%")
        (Drop(amount=0.5, relative=False), Drop(amount=0.02, relative=True))
    """

    amount: float
    relative: bool

    @classmethod
    def parse(cls, value: Any) -> Drop:
        """Read `max_drop`: points of the metric, or a text that ends in "%"."""
        form = 'points of the metric, such as 0.5, or relative, such as "1%"'
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        text = str(value) if is_number else value
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None or found.group(2) not in ("", "%"):
            raise _refusal("max_drop", value, form)
        amount, relative = float(found.group(1)), found.group(2) == "%"
        if not amount <= 100.0:
            raise _refusal("max_drop", value, form)
        return cls(amount / 100 if relative else amount, relative)

    def __str__(self) -> str:
        if self.relative:
            return f"{100 * self.amount:g} %"
        return f"{self.amount:g} point{'' if self.amount == 1 else 's'}"
