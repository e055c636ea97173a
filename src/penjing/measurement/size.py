"""What a file costs to store and to send."""

from __future__ import annotations

import dataclasses
import io
import lzma
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from penjing.errors import FileFormatError
from penjing.files import as_path, gzip_bytes, read_bytes
from penjing.json_values import JsonValue

# The slowest compressor here takes about two seconds for each 2**20 bytes.
MAX_FILE_BYTES = 2**30
# Zip stores no dates before this one.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(JsonValue):
    """Bytes of a file, as it is and compressed.

    Attributes:
        raw: The file itself.
        zip: A zip archive with the file alone in it, deflate level 6.
        gzip: gzip level 9, without name and date.
        zstd: Zstandard level 19.
        brotli: Brotli quality 11.
        xz: xz preset 9, extreme.
    """

    raw: int
    zip: int
    gzip: int
    zstd: int
    brotli: int
    xz: int

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {format_bytes(count)}" for name, count in self.to_dict().items()
        )


def measure_size(source: str | os.PathLike[str] | bytes) -> Size:
    """Measure the bytes of a file, raw and by five compressors.

    Args:
        source: Path of a file, or the bytes of one; 1 to 2**30 bytes.

    Returns:
        The sizes. They depend on nothing but the bytes; that of `zip` on the length
        of the file's name too ("data" where bytes are given).

    Raises:
        FileFormatError: If the file is missing, a folder, empty or too large.

    Example:
        >>> size = measure_size(b"ten bytes." * 100)
        >>> size.raw, size.gzip < 50
        (1000, True)
    """
    import brotli
    import zstandard

    name, data = _read(source)
    compressors: dict[str, Callable[[bytes], int]] = {
        "zip": lambda data: _zip_bytes(name, data),
        "gzip": gzip_bytes,
        "zstd": lambda data: len(zstandard.ZstdCompressor(level=19).compress(data)),
        "brotli": lambda data: len(brotli.compress(data, quality=11)),
        "xz": lambda data: len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }
    with ThreadPoolExecutor() as pool:  # compressors release the interpreter's lock
        jobs = {key: pool.submit(job, data) for key, job in compressors.items()}
        counts = {key: job.result() for key, job in jobs.items()}
    return Size(raw=len(data), **counts)


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


def _zip_bytes(name: str, data: bytes) -> int:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        entry = zipfile.ZipInfo(name, _ZIP_DATE)
        file.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=6)
    return len(archive.getvalue())
