"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from penjing.errors import CompressionError

# Enough of a long name to recognise it by, within what file systems allow.
_NAME_LENGTH = 32


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` on success.

    Args:
        path: File to write. Its folder must exist.

    Yields:
        The path of an empty file in the same folder, with the same suffixes. It is
        renamed to `path` where the block ends, and removed where the block raises.

    Raises:
        CompressionError: If the folder is missing, not writable or full.

    Example:
        >>> with atomic_path("out.txt") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("whole or not at all")
    """
    target = Path(path)
    name, dot, suffixes = target.name.partition(".")
    token = f".{name[:_NAME_LENGTH]}-{secrets.token_hex(4)}"
    temporary = Path(os.path.abspath(target.parent), f"{token}{dot}{suffixes}")
    created = False
    try:
        _check_target(target)
        # Created here, so that the block finds out about permissions first.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        created = True
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if not _concerns(error, target.parent):
            raise
        raise CompressionError(
            f"Cannot write {target}: {error.strerror or error}. Check the permissions "
            f"of {target.parent} and the space left on its disk."
        ) from error
    finally:
        if created:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to `path`, whole or not at all; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` as UTF-8 to `path`, whole or not at all; see `atomic_path`."""
    return write_bytes(path, text.encode("utf-8"))


def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise CompressionError(
            f"Cannot write {target}: the folder {target.parent} does not exist. "
            "Create it or choose another path."
        )
    if target.is_dir():
        raise CompressionError(
            f"Cannot write {target}: it is a folder. Add a file name to the path."
        )


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether an error in the block comes from writing into `folder`."""
    if isinstance(error, (ConnectionError, TimeoutError, ChildProcessError)):
        return False
    if not isinstance(error.filename, (str, bytes)):
        return True  # a write to an open file: it does not know its name
    named = os.path.abspath(os.fsdecode(error.filename))
    return os.path.abspath(folder) in (named, os.path.dirname(named))
