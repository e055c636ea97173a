"""Packages of Debian and wheels, unpacked without dpkg and pip."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from penjing.arguments import quoted
from penjing.errors import CompressionError

_MAGIC = b"!<arch>\n"
_HEADER = 60


def unpack_deb(package: Path, keep: Sequence[str], folder: Path) -> None:
    """Unpack what begins with one of the paths in `keep`, as "usr/lib/".

    Links to absolute paths are left out: they would lead out of the folder. A package
    that is none, or that lzma cannot read, is a CompressionError.
    """
    # Where Python has it, what would leave the folder is refused.
    safely: Any = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
    done = 0
    try:
        with open(package, "rb") as file:
            _find_data(file)
            with tarfile.open(fileobj=file, mode="r|*") as content:
                for member in content:
                    member.name = member.name.removeprefix("./")
                    absolute = member.issym() and member.linkname.startswith("/")
                    if member.name.startswith(tuple(keep)) and not absolute:
                        content.extract(member, folder, **safely)
                        done += 1
        if not done:
            raise ValueError(f"it holds nothing that begins with {quoted(keep)}")
    except (tarfile.TarError, ValueError) as error:
        raise CompressionError(
            f"Cannot unpack {package.name}: {error}. Remove {package}, and give the "
            "command again; Python needs its module lzma."
        ) from error


def unpack_wheel(wheel: Path, keep: Sequence[str], folder: Path) -> None:
    """Unpack what begins with one of the paths in `keep`, as "numpy/"."""
    with zipfile.ZipFile(wheel) as content:
        for name in content.namelist():
            if name.startswith(tuple(keep)):
                content.extract(name, folder)


def _find_data(file: IO[bytes]) -> None:
    """Go to the files of a package: the member of an ar archive called data.tar.*."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is no package of Debian")
    while header := file.read(_HEADER):
        name, size = header[:16].decode("ascii").strip(), int(header[48:58])
        if name.startswith("data.tar"):
            return
        file.seek(size + size % 2, 1)
    raise ValueError("it holds no files")
