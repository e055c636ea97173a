"""Faults of the machine, which say nothing of a recipe, a model or a file.

A file that is left out because the disk was full would be for good; a run that stops
goes on where it was.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from penjing.errors import CompressionError

_NUMBERS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EMFILE")
    if hasattr(errno, name)
)
_STOPPED = "The run cannot go on:"
# How TensorFlow and HDF5 say that a disk is full.
_WORDS = ("No space left on device", "errno = 28", "Disk quota exceeded")


def raise_machine_fault(error: BaseException) -> None:
    """End a run that met a fault of the machine, with a CompressionError.

    Args:
        error: What was raised, perhaps because of such a fault; else nothing happens.
    """
    if not any(map(_is_of_the_machine, _causes(error))):
        return
    says = isinstance(error.__cause__, OSError) or str(error).startswith(_STOPPED)
    if isinstance(error, CompressionError) and says:
        raise error  # it says where, and what to do
    raise CompressionError(
        f"{_STOPPED} {error}. Check the space left on the disks of the output folder "
        "and of temporary files, and their permissions; then do the same again: what "
        "is finished is kept."
    ) from error


def _is_of_the_machine(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return True
    return any(words in str(error) for words in _WORDS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
