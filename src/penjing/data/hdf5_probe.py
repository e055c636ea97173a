"""Whether the HDF5 library gets through a file: found out in a process of its own.

In a damaged file its tables may lead in circles, and within the library nothing in the
same process can end that. So this module is a script as well: it needs h5py alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# Seconds of the processor, for a small file and for each byte: sound models of 1 GiB
# take one, as arrays in one piece are not read.
_SECONDS, _SECONDS_PER_BYTE = 5, 1e-7
_MEMORY = 2**30  # besides the content, twice
_PATIENCE = 6  # seconds of the clock for one of the processor, on a busy machine
_MOST_OBJECTS = 100_000
_MOST_READ = 2**28


def check_comes_to_an_end(source: Path | bytes, where: Path) -> None:
    """Let another process read what tables of an HDF5 file lead to.

    Args:
        source: The file, or its content.
        where: What messages call it.

    Raises:
        FileFormatError: If the library crashes, or does not come to an end within 5
            seconds of the processor and one more for each 10 MB. What else is wrong
            with the file, who reads it will see.

    Example:
        >>> check_comes_to_an_end(Path("model.h5"), Path("model.h5"))  # doctest: +SKIP
    """
    from penjing.errors import FileFormatError
    from penjing.files import installed_places, limit, raise_limits

    if isinstance(source, bytes):
        path, content, size = "-", source, len(source)
    else:
        path, content, size = str(source), b"", source.stat().st_size
    seconds = limit(_SECONDS + int(size * _SECONDS_PER_BYTE))
    memory = limit(_MEMORY + 2 * size)
    command = [sys.executable, "-P", __file__, path, str(seconds), str(memory)]
    own = {
        "PYTHONPATH": os.pathsep.join(installed_places()),
        "OPENBLAS_NUM_THREADS": "1",  # each reserves memory
    }
    try:
        code = subprocess.run(
            command,
            env={**os.environ, **own},
            input=content,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE * seconds,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        code = None
    if code is None or code < 0:
        raise FileFormatError(
            f"Cannot read {where}: the HDF5 library crashes on it, or comes to no end "
            f"within {seconds} s. The file is corrupt. Copy or save it again. "
            f"{raise_limits()}"
        )


def _read(file: Any) -> None:
    """Attributes of everything, and arrays that are found through tables."""
    import h5py

    waiting: list[Any] = [file]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_OBJECTS:
        entry = waiting.pop()
        place = h5py.h5o.get_info(entry.id).addr
        if place in seen:  # groups may hold each other
            continue
        seen.add(place)
        for name in _names(entry.attrs):
            with contextlib.suppress(Exception):
                entry.attrs[name]
        if isinstance(entry, h5py.Dataset):
            with contextlib.suppress(Exception):
                _read_pieces(entry)
        elif isinstance(entry, h5py.Group):
            for name in _names(entry):
                with contextlib.suppress(Exception):
                    if isinstance(entry.get(name, getlink=True), h5py.HardLink):
                        waiting.append(entry[name])


def _names(entries: Any) -> list[str]:
    try:
        return list(entries)
    except Exception:
        return []


def _read_pieces(dataset: Any) -> None:
    import h5py

    elsewhere = dataset.is_virtual or dataset.external
    through_tables = dataset.chunks or h5py.check_vlen_dtype(dataset.dtype)
    if through_tables and not elsewhere and dataset.nbytes <= _MOST_READ:
        dataset[()]


def _limit(seconds: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the clock of the other process remains
        return
    reserved = 0
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        reserved = pages * os.sysconf("SC_PAGE_SIZE")
    for kind, value in (
        (resource.RLIMIT_AS, memory + reserved),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY or value < hard:
            with contextlib.suppress(OSError, ValueError):  # macOS may refuse memory's
                resource.setrlimit(kind, (value, hard))


def _main(path: str, seconds: str, memory: str) -> None:
    import h5py

    _limit(int(seconds), int(memory))
    source = io.BytesIO(sys.stdin.buffer.read()) if path == "-" else path
    with contextlib.suppress(Exception), h5py.File(source, "r") as file:
        _read(file)


if __name__ == "__main__":
    _main(*sys.argv[1:])
