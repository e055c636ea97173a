"""Files of users: checked before they are read, and never met half written."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import secrets
import shutil
import struct
import sys
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from penjing.errors import CompressionError, FileFormatError

LIMITS_VARIABLE = "PENJING_LIMITS"
# Enough of a long name to recognise it by, within what file systems allow.
_NAME_LENGTH = 32
MAX_FILE_BYTES = 8 * 2**30
# Content may be this many times the size of the file that holds it, where it is larger
# than the floor: more is a bomb, not a model or data.
MAX_EXPANSION = 100
EXPANSION_FLOOR = 64 * 2**20
# What Python and NumPy raise on content that is damaged or hostile.
DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, TypeError, AttributeError, LookupError),
    *(ArithmeticError, MemoryError, RuntimeError, SyntaxError, StopIteration),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
_LOCK = ".penjing-lock"
_LOCKED_WITHIN = 2.0  # Seconds in which a new folder surely is.


def limit(value: int) -> int:
    """What a file from outside may take, times what the user's variable says.

    Memory, seconds and sizes all go through here, so one variable raises them.
    """
    said = os.environ.get(LIMITS_VARIABLE, "").strip() or "1"
    try:
        factor = float(said)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1e6:
        raise CompressionError(
            f"The variable {LIMITS_VARIABLE} must be a number from above 0 to "
            f"1,000,000, by which all limits of files are multiplied, got {said!r}."
        )
    return int(value * factor)


def raise_limits(factor: int = 4) -> str:
    """The sentence that says how a file that is trusted gets more."""
    return (
        f"For files that you trust, {LIMITS_VARIABLE}={factor} in the environment "
        f"allows {factor} times as much."
    )


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` on success.

    It is that of an empty file in the same folder, with the same suffixes, renamed to
    `path` where the block ends, and removed where the block raises. A folder that is
    missing, not writable or full is a CompressionError.

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
        check_target(target)
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


@contextlib.contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Make a folder for temporary files, which goes with the block.

    Those of the same name that killed programs left behind go too: a program holds a
    lock in its folder for as long as it lives.
    """
    _remove_left_over(name)
    with (
        tempfile.TemporaryDirectory(
            prefix=f"{name}-", ignore_cleanup_errors=True
        ) as folder,
        open(Path(folder, _LOCK), "wb") as lock,
    ):
        _try_lock(lock)
        yield Path(folder)


def _remove_left_over(name: str) -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{name}-*/{_LOCK}"):
        with contextlib.suppress(OSError), open(path, "r+b") as lock:
            new = time.time() - path.stat().st_mtime < _LOCKED_WITHIN
            if not new and not path.parent.is_symlink() and _try_lock(lock):
                shutil.rmtree(path.parent)


def _try_lock(file: IO[bytes]) -> bool:
    """Lock a file for as long as it is open; False where another has, or none can."""
    try:
        import fcntl
    except ImportError:  # Windows keeps open files, and so their folders, by itself.
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to `path`, whole or not at all; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` as UTF-8 to `path`, whole or not at all; see `atomic_path`.

    What is not UTF-8 in it, as in the names of some files, is written as `utf8_text`.
    """
    return write_bytes(path, utf8_text(text).encode("utf-8"))


def utf8_text(text: str) -> str:
    r"""A text in which bytes that were not UTF-8, as of a file's name, can be read.

    Example:
        >>> utf8_text("caf\udce9.keras")
        'caf\\udce9.keras'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Refuse a path at which no folder is and none can be made, and leave no trace."""
    folder = Path(path)
    if utf8_text(str(folder)) != str(folder):
        raise CompressionError(
            f"The name of the output folder {utf8_text(str(folder))} is not UTF-8, "
            "which what writes models needs. Choose another one."
        )
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if there != folder and not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryDirectory(dir=there, prefix=".penjing-"):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CompressionError(
            f"Cannot make the output folder {folder}: {reason}. Choose another one."
        ) from error


def check_target(target: Path) -> None:
    """Refuse a path at which no file can be, for want of its folder or for another.

    What cannot be written there is found out when it is.
    """
    if not target.parent.is_dir():
        raise CompressionError(
            f"Cannot write {target}: the folder {target.parent} does not exist. "
            "Create it or choose another path."
        )
    if target.is_dir():
        raise CompressionError(
            f"Cannot write {target}: it is a folder. Add a file name to the path."
        )


def check_not_read(target: Path, read: Iterable[Path | None]) -> None:
    """Refuse to write over a file that is read for it."""
    for path in read:
        if path is not None and is_same_file(target, path):
            raise CompressionError(
                f"{target} would be written over, and it is read for that. Choose "
                "another file to write."
            )


def is_same_file(file: str | os.PathLike[str], given: Any) -> bool:
    """Whether something given is the path of a file that is there."""
    if not isinstance(given, (str, os.PathLike)):
        return False
    try:
        return os.path.samefile(file, given)
    except (OSError, ValueError):
        return False


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether an error in the block comes from writing into `folder`."""
    if isinstance(error, (ConnectionError, TimeoutError, ChildProcessError)):
        return False
    if not isinstance(error.filename, (str, bytes)):
        return True  # a write to an open file: it does not know its name
    named = os.path.abspath(os.fsdecode(error.filename))
    return os.path.abspath(folder) in (named, os.path.dirname(named))


def check_file(path: str | os.PathLike[str], most: int = MAX_FILE_BYTES) -> Path:
    """Refuse a path that is no readable, non-empty file of at most `most` bytes.

    What is no file, a folder, empty or larger is a FileFormatError.
    """
    path = as_path(path)
    try:
        if path.is_dir():
            raise FileFormatError(f"{path} is a folder. Give the path of a file.")
        if not path.is_file():
            raise FileFormatError(f"There is no file {path}. Check the path.")
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    if size == 0:
        raise FileFormatError(f"{path} is empty. Write it again.")
    allowed = limit(most)
    if size > allowed:
        raise FileFormatError(
            f"{path} has {size:,} bytes, more than the {allowed:,} that are allowed. "
            f"{raise_limits()}"
        )
    return path


def check_content(
    declared: int, path: Path, error: type[CompressionError] = FileFormatError
) -> None:
    """Refuse a file that says that it holds far more than its own bytes."""
    size = path.stat().st_size
    allowed = limit(max(EXPANSION_FLOOR, MAX_EXPANSION * size))
    if declared > allowed:
        raise error(
            f"{path} says that it unpacks to {declared:,} bytes, more than the "
            f"{allowed:,} that a file of its size may: it is corrupt, a bomb, or "
            "hardly anything but zeros. "
            f"{raise_limits()}"
        )


def read_bytes(path: str | os.PathLike[str], most: int = MAX_FILE_BYTES) -> bytes:
    """Read a whole file that `check_file` lets pass, or raise a FileFormatError."""
    path = check_file(path, most)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> FileFormatError:
    return FileFormatError(f"Cannot read {path}: {error.strerror}.")


def as_path(path: str | os.PathLike[str]) -> Path:
    """Give a path as `Path`; a FileFormatError if it is something else."""
    if not isinstance(path, (str, os.PathLike)):
        raise FileFormatError(
            f"Expected the path of a file, got an object of type {type(path).__name__}."
            " Give a text or a pathlib.Path."
        )
    return Path(path)


# Level 9 takes up to 0.75 seconds for each megabyte in which most values are zeros, and
# level 6 a tenth of that. Where few are they give the same.
BEST_GZIP_BYTES = 2**25
BEST_GZIP, QUICK_GZIP = 9, 6


def installed_places() -> list[str]:
    """Where this program finds modules, without the current folder.

    What lies there need not be trusted, and would hide modules of the same names. Where
    penjing itself is there, it stays.
    """
    here, own = os.getcwd(), str(Path(__file__).resolve().parents[1])
    places = map(os.path.abspath, sys.path)
    return [place for place in places if place != here or place == own]


def gzip_level(size: int) -> int:
    """The level at which so many bytes are compressed where they are measured."""
    return BEST_GZIP if size <= BEST_GZIP_BYTES else QUICK_GZIP


def gzip_bytes(data: bytes | memoryview, level: int | None = None) -> int:
    """Size of data after gzip, at `gzip_level` by default, without name and date."""
    level = gzip_level(len(data)) if level is None else level
    return len(gzip.compress(data, level, mtime=0))
