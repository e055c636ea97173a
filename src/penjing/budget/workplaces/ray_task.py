"""A trial on a node of a Ray cluster. Loads nothing heavy before it is set up.

Nodes need not share a file system: what a trial's folder has comes and goes as bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_loaded: dict[str, Any] = {}


def run_order(
    key: str,
    inputs: Any,
    run: str,
    order: Mapping[str, Any],
    files: Mapping[str, bytes],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Run a trial, from the files that there are of it.

    Args:
        key: What the inputs are known by: a process loads them once.
        inputs: Fields of a `SharedInputs`.
        run: `"module:function"` of what runs a trial.
        order: A `TrialOrder`, in types that JSON has.
        files: Content by path in the trial's folder.
        environment: Variables that have to be set before Keras is loaded.

    Returns:
        `"outcome"`, `"files"` and `"warnings"`; or `"kind"` and `"error"` of what was
        raised.
    """
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    from penjing.budget.trial import TrialOrder
    from penjing.budget.workplaces.trial_process import telling_warnings
    from penjing.files import temporary_folder
    from penjing.progress import ignore_progress

    warned: list[str] = []
    try:
        function, model, data = _inputs(key, inputs, run)
        with (
            temporary_folder("penjing-trial") as place,
            telling_warnings(warned.append),
        ):
            folder = place / str(order["name"])
            write_files(folder, files)
            done = function(
                TrialOrder.from_dict(order),
                model,
                data,
                folder,
                progress=ignore_progress,
            )
            found = read_files(folder)
    except Exception as error:
        return {"kind": type(error).__name__, "error": str(error)}
    return {"outcome": done.to_dict(), "files": found, "warnings": warned}


def _inputs(key: str, inputs: Any, run: str) -> Any:
    from penjing.budget.workplaces.shared_inputs import SharedInputs
    from penjing.budget.workplaces.workplace import function_named
    from penjing.models.own_classes import looking_in

    if key not in _loaded:
        _check_versions(inputs["index"]["versions"])
        model, data = SharedInputs(**inputs).load()
        with looking_in(inputs["index"]["places"]):
            function = function_named(run)
        _loaded.clear()
        _loaded[key] = (function, model, data)
    return _loaded[key]


def versions() -> dict[str, str]:
    """What has to be the same where trials are to give the same files."""
    import keras

    from penjing.version import __version__

    return {
        "penjing": __version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }


def _check_versions(wanted: Mapping[str, str]) -> None:
    from penjing.errors import CompressionError

    found = versions()
    others = [f"{name} {found[name]}" for name in wanted if found[name] != wanted[name]]
    if others:
        here = ", ".join(f"{name} {version}" for name, version in wanted.items())
        raise CompressionError(
            f"A node of the Ray cluster has {', '.join(others)}, which gives other "
            f"files than here ({here}). Install the same there."
        )


def read_files(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_files(folder: Path, files: Mapping[str, bytes], last: str = "") -> None:
    """Write what `read_files` read, each file whole or not at all, one of them last."""
    from penjing.files import write_bytes

    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == last):
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(f"{name} does not lie in the trial's folder.")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, files[name])
