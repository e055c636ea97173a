"""Files that are fetched by name, and taken only with the digest that penjing brings.

Where they come from is of no account: a mirror of Debian that has another content is
passed over, whatever its name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penjing.errors import CompressionError, MissingDependencyError
from penjing.progress import Listener, Progress

PACKAGES = Path(__file__).parent / "packages.json"
"""Versions, sizes and digests of all that is fetched."""

MIRROR_VARIABLE = "PENJING_DEBIAN_MIRROR"
SECONDS = 1800
"""What fetching one file may take."""

_MIRRORS = ("http://deb.debian.org/debian",)
_SNAPSHOT = "https://snapshot.debian.org/archive/debian/{}"
_SILENT_SECONDS = 30
_PART = 2**18
_AGAIN = "Nothing was changed; the command can be given again, and goes on from there."


@dataclasses.dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """A file that exactly one content is taken for.

    Attributes:
        path: Where it lies on a mirror of Debian; of a wheel, its name.
        bytes: Its size.
        sha256: Its digest, in hexadecimal.
        keep: What the paths begin with that are unpacked of it.
        requirement: Of a wheel: what pip calls it.
    """

    path: str
    bytes: int
    sha256: str
    keep: tuple[str, ...]
    requirement: str = ""

    @property
    def name(self) -> str:
        """Its name, without the folders before it."""
        return self.path.rpartition("/")[2]

    @property
    def package(self) -> str:
        """What people call it."""
        return self.requirement.partition("==")[0] or self.name.partition("_")[0]

    def is_at(self, path: Path) -> bool:
        """Whether a file has this content."""
        try:
            if path.stat().st_size != self.bytes:
                return False
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def pinned() -> dict[str, Any]:
    """What `PACKAGES` holds."""
    content: dict[str, Any] = json.loads(PACKAGES.read_text("utf-8"))
    return content


def pinned_files(kind: str) -> list[PinnedFile]:
    """The files of a kind: "debian" or "wheels"."""
    return [PinnedFile(**{**row, "keep": tuple(row["keep"])}) for row in pinned()[kind]]


def fetch_packages(
    files: Sequence[PinnedFile], folder: Path, listen: Listener
) -> list[Path]:
    """Fetch packages of Debian into a folder; what is there already stays.

    A file that was fetched in part is gone on with. What no mirror has, or has with
    another content, is a CompressionError.
    """
    return [_fetched(file, folder, listen) for file in files]


def mirrors() -> list[str]:
    """Where packages are looked for, in this order.

    The last one keeps every version that Debian ever had.
    """
    own = os.environ.get(MIRROR_VARIABLE)
    return [
        *([own.rstrip("/")] if own else []),
        *_MIRRORS,
        _SNAPSHOT.format(pinned()["snapshot"]),
    ]


def _fetched(file: PinnedFile, folder: Path, listen: Listener) -> Path:
    target, part = folder / file.name, folder / f"{file.name}.part"
    if file.is_at(target):
        return target
    reasons = []
    for mirror in mirrors():
        try:
            _download(f"{mirror}/{file.path}", part, file, listen)
        except (OSError, http.client.HTTPException, ValueError) as error:
            said = str(error).removeprefix("<urlopen error ").removesuffix(">")
            reasons.append(f"  {mirror}: {said}")
            continue
        if file.is_at(part):
            os.replace(part, target)
            return target
        part.unlink(missing_ok=True)
        reasons.append(
            f"  {mirror}: {file.name} has not the content that penjing was tested with "
            "(another SHA-256)"
        )
    raise CompressionError(
        f"Cannot fetch {file.package}, of {file.bytes:,} bytes:\n"
        + "\n".join(reasons)
        + f"\nIs there a network? The variable {MIRROR_VARIABLE} names another mirror "
        f"of Debian. {_AGAIN}"
    )


def _download(url: str, part: Path, file: PinnedFile, listen: Listener) -> None:
    """Write what an address gives, at most the bytes that the file has."""
    there = part.stat().st_size if part.exists() else 0
    if there >= file.bytes:
        return
    head = {"Range": f"bytes={there}-"} if there else {}
    request = urllib.request.Request(url, headers=head)
    limit = time.monotonic() + SECONDS
    with urllib.request.urlopen(request, timeout=_SILENT_SECONDS) as answer:
        goes_on = there and answer.status == 206
        done = there if goes_on else 0
        with open(part, "ab" if goes_on else "wb") as out:
            while done < file.bytes:
                content = answer.read(min(_PART, file.bytes - done))
                if not content:
                    break
                out.write(content)
                done += len(content)
                listen(_progress(file, done))
                if time.monotonic() > limit:
                    raise TimeoutError(f"not there after {SECONDS} seconds")
    if done < file.bytes:
        raise ConnectionError(f"ended after {done:,} of {file.bytes:,} bytes")


def _progress(file: PinnedFile, done: int) -> Progress:
    mib = 2**20
    return Progress(
        stage=f"Fetching {file.package} (MiB)",
        done=done // mib,
        total=-(-file.bytes // mib),
    )


def fetch_wheels(
    files: Sequence[PinnedFile], folder: Path, listen: Listener
) -> list[Path]:
    """Fetch wheels for ARM into a folder, with pip; what is there already stays.

    pip asks the package index that it is set up for. A wheel that it does not get, or
    gets with another content, is a CompressionError, a missing pip a
    MissingDependencyError.
    """
    missing = [file for file in files if not file.is_at(folder / file.name)]
    if missing:
        names = " and ".join(file.package for file in missing)
        total = sum(file.bytes for file in missing)
        listen(Progress(stage=f"Fetching {names} ({total / 2**20:.0f} MiB)"))
        _run_pip(missing, folder)
    for file in missing:
        if not file.is_at(folder / file.name):
            raise CompressionError(
                f"pip ended without an error, but {file.name} is not there with the "
                f"content that penjing was tested with. {_AGAIN}"
            )
    return [folder / file.name for file in files]


def _run_pip(files: Sequence[PinnedFile], folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError(
            f"Fetching wheels needs pip, which {sys.executable} has not. Install it "
            "with: python -m ensurepip (or: uv pip install pip)"
        )
    wanted = folder / "wheels.txt"
    wanted.write_text(
        "".join(f"{file.requirement} --hash=sha256:{file.sha256}\n" for file in files)
    )
    try:
        done = subprocess.run(
            [*_PIP, f"--python-version={pinned()['python']}", f"--dest={folder}"]
            + [f"--requirement={wanted}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise CompressionError(
            f"pip was stopped after {SECONDS} seconds. Check the network. {_AGAIN}"
        ) from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        said = "\n".join(errors[:6]) or done.stderr[-500:]
        raise CompressionError(
            f"pip could not fetch the wheels for ARM (exit code {done.returncode}):\n"
            f"{said}\nDoes its package index have them? {_AGAIN}"
        )


_PIP = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input"),
    *("--disable-pip-version-check", "--no-deps", "--only-binary=:all:"),
    *("--require-hashes", "--retries=1", "--implementation=cp"),
    *("--platform=manylinux_2_27_aarch64", "--platform=manylinux_2_28_aarch64"),
)
