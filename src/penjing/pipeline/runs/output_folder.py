"""The folder of a run: nobody else's files are written over, and one run has it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from penjing.errors import CompressionError
from penjing.files import DAMAGE, check_folder, is_same_file, write_text

_STATE = ".state"
_OUTPUTS = "outputs.json"  # names of files here that runs wrote
_OWNER = "run.json"
_LOCK = "lock"
_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())


@contextlib.contextmanager
def output_folder(
    path: str | os.PathLike[str],
    names: Sequence[str],
    *,
    inputs: Iterable[Any] = (),
    overwrite: bool = False,
) -> Iterator[Path]:
    """Give the folder of a run, made where it is missing, to this run alone.

    Files that an earlier run left half-written are removed. A CompressionError says
    that `names`, which the run will write, are its inputs or files of somebody else, or
    that another run is at work there; see `check_outputs`. What is written has to be
    claimed first, so that the next run knows it: `claim_outputs`.
    """
    folder = make_folder(path)
    with _alone(folder):
        check_outputs(folder, names, inputs=inputs, overwrite=overwrite)
        claim_outputs(folder, ())  # those of version 0.1 are known by the list then
        _remove_half_written(folder, names)
        yield folder


def claim_outputs(folder: Path, names: Iterable[str]) -> None:
    """Keep in mind that files are the run's, before it writes them."""
    known = outputs_of(folder)
    path = folder / _STATE / _OUTPUTS
    if not path.is_file() or not known.issuperset(names):
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(sorted({*known, *names}), indent=1))


def check_outputs(
    path: str | os.PathLike[str],
    names: Sequence[str],
    *,
    inputs: Iterable[Any] = (),
    overwrite: bool = False,
) -> None:
    """Refuse, with a CompressionError, to write over files that penjing did not write.

    The files of the run itself, such as its model, are never written over, others with
    `overwrite`. `inputs` may be anything; paths count. The folder need not exist.
    """
    folder = as_folder(path)
    found = [name for name in names if os.path.lexists(folder / name)]
    for name in found:
        for given in inputs:
            if is_same_file(folder / name, given):
                raise CompressionError(
                    f"{shown(folder / name)} would be written over, and it is an input "
                    "of this run. Choose another `out` (--out)."
                )
    foreign = [] if overwrite else sorted({*found} - outputs_of(folder))
    if foreign:
        raise CompressionError(
            f"Files in {shown(folder)} that no run of penjing wrote would be written "
            f"over: {', '.join(foreign)}. Choose another `out` (--out), or allow it "
            "with `overwrite=True` (--overwrite)."
        )


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder where it is missing, or refuse its path; gives the whole path."""
    folder = as_folder(path)
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressionError(
            f"Cannot make the output folder {shown(folder)}: "
            f"{error.strerror or error}. Choose another one."
        ) from error
    return folder


def as_folder(path: Any) -> Path:
    """Give the whole path of a folder; a CompressionError if it is no path."""
    if not isinstance(path, (str, os.PathLike)):
        raise CompressionError(
            "The output folder must be given as a text or a pathlib.Path, got an "
            f"object of type {type(path).__name__}."
        )
    return Path(os.path.abspath(path))


def shown(path: Path) -> str:
    """A path as people type it: from where they are, if it is below that."""
    relative = os.path.relpath(path) if path.anchor == Path.cwd().anchor else ".."
    return str(path) if relative.startswith(os.pardir) else relative


def as_absolute(value: Any) -> Any:
    """Give a path as one that holds wherever the program goes; else the value."""
    is_path = isinstance(value, (str, os.PathLike))
    return Path(os.path.abspath(value)) if is_path else value


def outputs_of(folder: Path) -> set[str]:
    """Names of the files that runs wrote, or were about to write."""
    names = _read_json(folder / _STATE / _OUTPUTS)
    if isinstance(names, list):
        return set(map(str, names))
    # Version 0.1 kept no list, but a manifest for each of its states.
    states = list((folder / _STATE).glob("*/manifest.json"))
    return {file.name for file in folder.iterdir()} if states else set()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except DAMAGE:
        return None


def _remove_half_written(folder: Path, names: Iterable[str]) -> None:
    """Remove what `atomic_path` leaves where a run is killed."""
    stems = {re.escape(name.partition(".")[0][:32]) for name in names}
    ours = re.compile(rf"(\.-[0-9a-f]{{8}})?\.({'|'.join(stems)})-[0-9a-f]{{8}}\..*")
    for file in folder.iterdir():
        if ours.fullmatch(file.name) and file.is_file():
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, once for a run within a run; it goes with the process."""
    if folder in _held.get():
        yield
        return
    state = folder / _STATE
    lock = FileLock(state / _LOCK, timeout=0)
    try:
        state.mkdir(exist_ok=True)
        lock.acquire()
    except Timeout:
        raise _taken(folder) from None
    except OSError as error:
        raise CompressionError(
            f"Cannot write to the output folder {shown(folder)}: "
            f"{error.strerror or error}. Choose another one."
        ) from error
    token = _held.set(_held.get() | {folder})
    try:
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        owner = {"process": os.getpid(), "machine": platform.node(), "since": now}
        write_text(state / _OWNER, json.dumps(owner))
        yield
    finally:
        _held.reset(token)
        lock.release()


def _taken(folder: Path) -> CompressionError:
    owner = _read_json(folder / _STATE / _OWNER)
    who = ""
    if isinstance(owner, dict):
        who = ": process {process} on {machine}, since {since}".format_map(
            {"process": "?", "machine": "?", "since": "?", **owner}
        )
    return CompressionError(
        f"Another run is at work in {shown(folder)}{who}. Wait for it, end it, or "
        "choose another `out` (--out)."
    )
