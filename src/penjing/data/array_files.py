"""Arrays in `.npz` and `.npy` files, which may be damaged, or ask for any memory."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from penjing.errors import DataError
from penjing.files import DAMAGE, check_content, limit, raise_limits

_MAX_ARRAYS = 10_000
_MAX_BYTES = 16 * 2**30


def read_npz(path: Path) -> dict[str, Any]:
    """Read all arrays of a file that is there; a DataError where that cannot be done.

    What they say of their sizes is compared with the file before they are read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, path)
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except DataError:
        raise
    except ValueError as error:
        raise DataError(
            f"Cannot read the arrays in {path} ({error}). Arrays of Python objects are "
            "not allowed: give all examples one shape and a dtype of numbers."
        ) from error
    except DAMAGE as error:
        raise DataError(
            f"Cannot read {path} as .npz ({error}). Write it again with "
            "numpy.savez_compressed."
        ) from error


def read_npy(path: Path) -> np.ndarray[Any, Any]:
    """Read the array of an `.npy` file; a DataError where that cannot be done.

    What it says of its size is compared with the file before it is read.
    """
    try:
        with path.open("rb") as file:
            if _declared_bytes(file) > path.stat().st_size:
                raise EOFError("it says that it has more bytes than there are")
        return np.asarray(np.load(path, allow_pickle=False))
    except DAMAGE as error:
        raise DataError(
            f"Cannot read {path} as .npy ({error}). Write it again with numpy.save; "
            "arrays of Python objects are not allowed."
        ) from error


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    most = limit(_MAX_BYTES)
    if size > most:
        raise DataError(
            f"{path} unpacks to {size / 2**30:.1f} GiB, more than {most / 2**30:.3g}. "
            f"Give module:function with a loader. {raise_limits()}"
        )
    if len(entries) > _MAX_ARRAYS:
        raise DataError(
            f"{path} holds {len(entries):,} arrays, more than {_MAX_ARRAYS:,}. Give "
            "module:function with a loader."
        )
    check_content(size, path, DataError)
    for entry in entries:
        if entry.filename.endswith(".npy"):
            with archive.open(entry) as file:
                declared = _declared_bytes(file)
            if declared > entry.file_size:
                raise EOFError(
                    f"{entry.filename} says that it has {declared:,} bytes, but has "
                    f"{entry.file_size:,}"
                )


def _declared_bytes(file: IO[bytes]) -> int:
    """Bytes of an array by the head of its `.npy` file; 0 where it holds objects."""
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    return 0 if dtype.hasobject else math.prod(shape) * dtype.itemsize
