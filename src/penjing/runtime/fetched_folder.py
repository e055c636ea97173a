"""Folders of what is fetched once: in the user's cache, whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from penjing.errors import CompressionError

_DIGEST = "digest.txt"


def cache_folder() -> Path:
    """The folder of the user in which programs keep what they can fetch again."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


def folder_for(name: str, variable: str) -> Path:
    """Where a folder belongs: what the variable says, else the user's cache."""
    named = os.environ.get(variable)
    return Path(os.path.abspath(named)) if named else cache_folder() / "penjing" / name


@contextlib.contextmanager
def replaced_folder(target: Path, seconds: float) -> Iterator[Path]:
    """Give a new folder that takes the place of `target` on success.

    What an earlier call left that was killed goes first: one takes at most twice
    `seconds`. Where the folder cannot be written, a CompressionError says so.
    """
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    _remove_left_over(target, 2 * seconds)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except OSError as error:
        raise CompressionError(
            f"Cannot write {target}: {error.strerror or error}. Choose another folder "
            "with `--dir`."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_left_over(target: Path, seconds: float) -> None:
    for folder in target.parent.glob(f".{glob.escape(target.name)}-????????"):
        with contextlib.suppress(OSError):
            old = time.time() - folder.lstat().st_mtime > seconds
            if old and not folder.is_symlink():
                shutil.rmtree(folder)


def note_digest(folder: Path, content: str) -> None:
    """Write down what `is_undamaged` compares with: the files below `content`."""
    (folder / _DIGEST).write_text(_digest(folder / content))


def is_undamaged(folder: Path, content: str) -> bool:
    """Whether all files below `content` are those of which a digest was noted."""
    try:
        return (folder / _DIGEST).read_text() == _digest(folder / content)
    except (OSError, ValueError):
        return False


def bytes_below(folder: Path) -> int:
    """What the files of a folder take on disk."""
    paths = (path for path in folder.rglob("*") if not path.is_symlink())
    return sum(path.stat().st_size for path in paths if path.is_file())


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.name} {path.stat().st_size} ".encode())
            with open(path, "rb") as file:
                while part := file.read(2**20):
                    digest.update(part)
    return digest.hexdigest()
