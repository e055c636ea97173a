"""Bytes of files after gzip, where most of a file is the same as before.

Gzip at level 9 takes up to a second for each megabyte of zeros. It looks back 32 kB at
most, so a large constant takes as many bytes wherever it lies in a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent import futures

from penjing.files import gzip_bytes
from penjing.tflite.records import Record

# Smaller files are compressed as a whole: that takes less than a second.
SPLIT_BYTES = 2**20
_LARGE_CONSTANT = 2**16


class GzipSizes:
    """Sizes after gzip of parts of files at one level, each found once.

    Example:
        >>> GzipSizes(9).of([b"0" * 1000]) < 40
        True
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self._known: dict[bytes, int] = {}

    def of(self, parts: Iterable[bytes]) -> int:
        """The sum for some parts."""
        parts = list(parts)
        self.find(parts)
        return sum(self._known[_digest(part)] for part in parts)

    def find(self, parts: Sequence[bytes]) -> None:
        """Find out sizes, as many at once as there are processors."""
        new = {_digest(part): part for part in parts}
        new = {key: part for key, part in new.items() if key not in self._known}
        with futures.ThreadPoolExecutor() as pool:
            found = pool.map(lambda part: gzip_bytes(part, self.level), new.values())
        self._known |= zip(new, found, strict=True)


def split_file(content: bytes, model: Record) -> list[bytes]:
    """The large constants of a file, and behind them the rest of it in one piece.

    A file below `SPLIT_BYTES` is one part.
    """
    if len(content) < SPLIT_BYTES:
        return [content]
    constants, rest, end = [], [], 0
    for start, length in _large_constants(content, model):
        if start >= end:
            rest.append(content[end:start])
            end = start + length
            constants.append(content[start:end])
    return [*constants, b"".join([*rest, content[end:]])]


def _large_constants(content: bytes, model: Record) -> list[tuple[int, int]]:
    """Where large constants lie in a file, and how long they are."""
    found = []
    for buffer in model["buffers"]:
        data = buffer["data"]
        if len(data) >= _LARGE_CONSTANT:
            found.append((content.find(data.tobytes()), len(data)))
    return sorted(place for place in found if place[0] >= 0)


def _digest(part: bytes) -> bytes:
    return hashlib.sha256(part).digest()
