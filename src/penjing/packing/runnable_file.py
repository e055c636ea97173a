"""What LiteRT runs of a file that is packed for TensorFlow Lite Micro."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from penjing.files import temporary_folder
from penjing.packing.packing import restore
from penjing.runtime.file_bounds import is_for_tflm


@contextlib.contextmanager
def runnable_file(file: Path) -> Iterator[Path]:
    """Give the file, or for the block what a packed one decodes to, under its name."""
    is_packed = file.suffix.lower() == ".tflite" and is_for_tflm(
        file.read_bytes(), str(file)
    )
    if not is_packed:
        yield file
        return
    with temporary_folder("penjing-restored") as folder:
        path = folder / file.name
        path.write_bytes(restore(file.read_bytes(), str(file)))
        yield path
