"""QEMU, and Python with LiteRT for ARM: fetched once, in pinned versions, and tried."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from penjing.arm.arm_packages import (
    CONTENT,
    ArmFolder,
    arm_folder,
    check_machine,
    is_complete,
)
from penjing.arm.arm_session import ArmSession
from penjing.arm.pinned_files import (
    PACKAGES,
    SECONDS,
    fetch_packages,
    fetch_wheels,
    pinned,
    pinned_files,
)
from penjing.arm.unpacking import unpack_deb, unpack_wheel
from penjing.errors import CompressionError
from penjing.progress import Listener, Progress, listening
from penjing.runtime.fetched_folder import (
    bytes_below,
    is_undamaged,
    note_digest,
    replaced_folder,
)

_DOWNLOADS = ".{}-downloads"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmSetup:
    """What `setup_arm` did.

    Attributes:
        folder: Where QEMU, Python and LiteRT are.
        versions: Name of each of them -> its version.
        bytes: What they take on disk.
        fetched: False where they were there already.
    """

    folder: Path
    versions: dict[str, str]
    bytes: int
    fetched: bool


def setup_arm(
    folder: str | os.PathLike[str] | None = None, *, progress: Listener | bool = True
) -> ArmSetup:
    """Fetch what runs `.tflite` files on an emulated ARM processor.

    That are Debian's static QEMU and Python for ARM, from a mirror of Debian, and
    LiteRT and NumPy for ARM, by pip: exactly the files that penjing was tested with, by
    the digests that it brings. The folder takes its name when all is there and has run
    once. What is there already, undamaged, is left as it is; files that were fetched
    before an interruption are not fetched again.

    Args:
        folder: Where to. None: where the variable `PENJING_ARM_DIR` says, else the
            user's cache folder; penjing finds them in either.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        What was done.

    Raises:
        MissingDependencyError: If this is not Linux on x86-64, or pip is missing.
        CompressionError: If a file cannot be had, as without a network, or the folder
            cannot be written.

    Example:
        >>> setup_arm().versions  # doctest: +SKIP
        {'QEMU': '10.0', 'Python': '3.13', 'LiteRT': '2.3.0'}
    """
    check_machine()
    target = arm_folder() if folder is None else Path(os.path.abspath(folder))
    if _is_there(target):
        return _described(target, fetched=False)
    if target.exists() and not _is_ours(target):
        raise CompressionError(
            f"{target} holds something else. Choose an empty or a new folder with "
            "`--dir`."
        )
    downloads = target.with_name(_DOWNLOADS.format(target.name))
    with listening(progress) as listen, _alone_in(downloads, target):
        fetched = not _is_there(target)  # another may have been first
        if fetched:
            _set_up(target, downloads, listen)
        shutil.rmtree(downloads, ignore_errors=True)
    return _described(target, fetched=fetched)


def _is_there(target: Path) -> bool:
    return is_complete(target) and is_undamaged(target, CONTENT)


@contextlib.contextmanager
def _alone_in(downloads: Path, target: Path) -> Iterator[None]:
    """Hold the folder of downloads, once all who held it before are done."""
    lock = FileLock(downloads / "lock")
    try:
        while not lock.is_locked:
            downloads.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the other took it away
                lock.acquire()
    except OSError as error:
        raise CompressionError(
            f"Cannot write {target}: {error.strerror or error}. Choose another folder "
            "with `--dir`."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _set_up(target: Path, downloads: Path, listen: Listener) -> None:
    with replaced_folder(target, SECONDS) as temporary:
        _fill(ArmFolder(temporary), downloads, listen)
        shutil.copyfile(PACKAGES, temporary / PACKAGES.name)
        note_digest(temporary, CONTENT)


def _fill(arm: ArmFolder, downloads: Path, listen: Listener) -> None:
    packages, wheels = pinned_files("debian"), pinned_files("wheels")
    paths = fetch_packages(packages, downloads, listen)
    paths += fetch_wheels(wheels, downloads, listen)
    for number, (file, path) in enumerate(zip(packages + wheels, paths, strict=True)):
        listen(Progress(stage="Unpacking", done=number, total=len(paths)))
        if file in packages:
            unpack_deb(path, file.keep, arm.root)
        else:
            unpack_wheel(path, file.keep, arm.modules)
    listen(Progress(stage="Starting LiteRT on the emulated processor"))
    ArmSession(folder=arm).close()


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or what an earlier `setup_arm` left."""
    if not folder.is_dir():
        return False
    try:
        content = json.loads((folder / PACKAGES.name).read_text("utf-8"))
    except (OSError, ValueError):
        return not any(folder.iterdir())
    return isinstance(content, dict) and content.get("name") == pinned()["name"]


def _described(folder: Path, *, fetched: bool) -> ArmSetup:
    names = {"QEMU": "qemu", "Python": "python", "LiteRT": "litert"}
    return ArmSetup(
        folder=folder,
        versions={name: pinned()[key] for name, key in names.items()},
        bytes=bytes_below(folder),
        fetched=fetched,
    )
