"""What a file costs to store and to send."""

from __future__ import annotations

import dataclasses
import io
import lzma
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from penjing.errors import FileFormatError
from penjing.files import (
    BEST_GZIP,
    BEST_GZIP_BYTES,
    QUICK_GZIP,
    as_path,
    gzip_bytes,
    read_bytes,
    utf8_text,
)
from penjing.json_values import JsonValue

MAX_FILE_BYTES = 2**30
# Zip stores no dates before this one.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# Levels by the most bytes that they are for: the best one takes ten seconds or twenty
# for as many, and up to 2.3 s (brotli), 0.7 s (xz, gzip) and 0.5 s (zstd) for each
# further megabyte; the one behind it a tenth.
_LEVELS: dict[str, tuple[tuple[int, str], ...]] = {
    "zip": ((MAX_FILE_BYTES, "6"),),
    "gzip": ((BEST_GZIP_BYTES, f"{BEST_GZIP}"), (MAX_FILE_BYTES, f"{QUICK_GZIP}")),
    "zstd": ((2**25, "19"), (MAX_FILE_BYTES, "12")),
    "brotli": ((2**22, "11"), (MAX_FILE_BYTES, "9")),
    "xz": ((2**24, "9e"), (MAX_FILE_BYTES, "3")),
}
_LEAST_DICTIONARY = 2**18  # bytes: of xz preset 0, all others have larger ones
_SMALLEST_DICTIONARY = 4096  # that xz takes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(JsonValue):
    """Bytes of a file, as it is and compressed.

    What `measure_size` gives measures each number when it is first read. It holds the
    bytes of the file until all are known.

    Attributes:
        raw: The file itself.
        zip: A zip archive with the file alone in it, deflate level 6.
        gzip: gzip level 9, of more than 2**25 bytes level 6, without name and date.
        zstd: Zstandard level 19, of more than 2**25 bytes level 12.
        brotli: Brotli quality 11, of more than 2**22 bytes quality 9.
        xz: xz preset 9, extreme; of more than 2**24 bytes preset 3.
    """

    raw: int
    zip: int
    gzip: int
    zstd: int
    brotli: int
    xz: int

    @property
    def levels(self) -> dict[str, str]:
        """The level of each compressor, which depends on the size of the file."""
        return {name: level_for(name, self.raw) for name in _LEVELS}

    def to_dict(self) -> dict[str, Any]:
        """Everything in types that JSON has; levels where some are lower than usual."""
        measure_all(self)
        lower = {"levels": self.levels} if lower_levels(self) else {}
        return {**super().to_dict(), **lower}

    def __str__(self) -> str:
        measure_all(self)
        lower = lower_levels(self)
        texts = {name: format_bytes(getattr(self, name)) for name in ("raw", *_LEVELS)}
        return ", ".join(
            f"{name} {text}" + (f" (level {lower[name]})" if name in lower else "")
            for name, text in texts.items()
        )

    if not TYPE_CHECKING:  # all fields are known to be there

        def __getattr__(self, name: str) -> int:
            """Measure a field that is not known yet."""
            content = self.__dict__.get(_CONTENT)
            if content is None or name not in _LEVELS:
                kind = type(self).__name__
                raise AttributeError(f"{kind!r} object has no attribute {name!r}")
            count = _compressed(name, *content)
            self.__dict__[name] = count
            if all(other in self.__dict__ for other in _LEVELS):
                self.__dict__.pop(_CONTENT, None)
            return count

    def __getstate__(self) -> dict[str, Any]:
        """All numbers: a copy has no need of the bytes."""
        measure_all(self)
        return dict(self.__dict__)


_CONTENT = "_content"  # name and bytes of a file, as long as a field may need them


def level_for(compressor: str, size: int) -> str:
    """The level of a compressor for a file of this size."""
    return next(level for most, level in _LEVELS[compressor] if size <= most)


def lower_levels(size: Size) -> dict[str, str]:
    """The levels that are lower than those of small files."""
    return {
        name: level
        for name, level in size.levels.items()
        if level != _LEVELS[name][0][1]
    }


def measure_all(size: Size) -> None:
    """Measure what is not known yet, as many at once as there are processors."""
    missing = [name for name in _LEVELS if name not in size.__dict__]
    if missing:
        with ThreadPoolExecutor() as pool:  # they release the interpreter's lock
            list(pool.map(lambda name: getattr(size, name), missing))


def measure_size(source: str | os.PathLike[str] | bytes) -> Size:
    """Measure the bytes of a file, raw and by five compressors.

    A file is read at once and compressed when a size is asked for: `.raw` and `.gzip`
    cost nothing of the time that `.brotli` takes.

    Args:
        source: Path of a file, or the bytes of one; 1 to 2**30 bytes.

    Returns:
        The sizes. They depend on nothing but the bytes; that of `zip` on the length
        of the file's name too ("data" where bytes are given). Large files are
        compressed at lower levels, see `Size`; `.levels` has them.

    Raises:
        FileFormatError: If the file is missing, a folder, empty or too large.

    Example:
        >>> size = measure_size(b"ten bytes." * 100)
        >>> size.raw, size.gzip < 50, size.levels["gzip"]
        (1000, True, '9')
    """
    name, data = _read(source)
    size = object.__new__(Size)
    size.__dict__.update({"raw": len(data), _CONTENT: (name, data)})
    return size


def _compressed(compressor: str, name: str, data: bytes) -> int:
    """Bytes of a file after a compressor."""
    import brotli
    import zstandard

    level = level_for(compressor, len(data))
    if compressor == "zip":
        return _zip_bytes(name, data, int(level))
    if compressor == "gzip":
        return gzip_bytes(data, int(level))
    if compressor == "zstd":
        return len(zstandard.ZstdCompressor(level=int(level)).compress(data))
    if compressor == "brotli":
        return len(brotli.compress(data, quality=int(level)))
    extreme = lzma.PRESET_EXTREME if level.endswith("e") else 0
    filters: dict[str, Any] = {
        "id": lzma.FILTER_LZMA2,
        "preset": int(level[0]) | extreme,
    }
    if len(data) <= _LEAST_DICTIONARY:
        # As many bytes come out, without the preset's 64 MiB being set up.
        filters["dict_size"] = max(len(data), _SMALLEST_DICTIONARY)
    return len(lzma.compress(data, filters=[filters]))


def format_bytes(count: int) -> str:
    """Write a number of bytes for people, in units of 1,000, with three digits.

    Example:
        >>> format_bytes(999), format_bytes(15438), format_bytes(2_500_000)
        ('999 B', '15.4 kB', '2.50 MB')
    """
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def _read(source: str | os.PathLike[str] | bytes) -> tuple[str, bytes]:
    if not isinstance(source, bytes):
        return as_path(source).name, read_bytes(source, MAX_FILE_BYTES)
    if not source:
        raise FileFormatError("There are no bytes to measure, got an empty value.")
    if len(source) > MAX_FILE_BYTES:
        raise FileFormatError(
            f"Got {len(source):,} bytes, more than the {MAX_FILE_BYTES:,} allowed."
        )
    return "data", source


def _zip_bytes(name: str, data: bytes, level: int) -> int:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        entry = zipfile.ZipInfo(utf8_text(name), _ZIP_DATE)
        file.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=level)
    return len(archive.getvalue())
