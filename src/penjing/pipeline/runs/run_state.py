"""What a compression has finished, kept on disk so that it can go on after a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penjing.errors import CompressionError
from penjing.files import DAMAGE, atomic_path, write_text
from penjing.pipeline.runs.noted_warnings import noted_warnings

MANIFEST = "manifest.json"
_VARIABLES = "training.npz"
# What `atomic_path` leaves where a run is killed.
HALF_WRITTEN = (".*-????????.*",)
# All that is ever written into the folder of a state.
_PATTERNS = (MANIFEST, _VARIABLES, "*.keras", *HALF_WRITTEN)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BestEpoch:
    """The weights of the epoch, counted from 0, that scored best so far."""

    epoch: int
    score: float
    values: Sequence[Any]


class RunState:
    """Finished stages and the last state of training, in one folder.

    Every write is atomic: a kill at any moment leaves the state before or after it. A
    state that belongs to another digest is thrown away, any with `restart`. Files that
    a kill left half-written are removed.

    `origin` is `"new"`, `"resumed"`, or `"changed"` where a state with another digest
    was thrown away. `history` is loss and metrics by epoch, `best` the epoch that is
    kept; both are saved and restored with the variables.
    """

    def __init__(self, folder: Path, digest: str, *, restart: bool = False) -> None:
        self.folder = folder
        self._digest = digest
        self._stages: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []
        self.best: BestEpoch | None = None
        self.origin = "new"
        manifest = self._read_manifest()
        if manifest is not None and manifest["digest"] == digest and not restart:
            self._stages = manifest["stages"]
            self.origin = "resumed"
            remove_files(self.folder, HALF_WRITTEN)
            return
        if manifest is not None and not restart:
            self.origin = "changed"
        self._clear()

    def _read_manifest(self) -> dict[str, Any] | None:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text("utf-8"))
            stages = manifest["stages"]
            sound = isinstance(manifest["digest"], str) and all(
                map(_is_stage, dict.values(stages))
            )
        except DAMAGE:
            return None
        return manifest if sound else None

    def _clear(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_files(self.folder, _PATTERNS)
        except OSError as error:
            raise CompressionError(
                f"Cannot write the state of the run to {self.folder}: "
                f"{error.strerror or error}. Choose another output folder."
            ) from error
        self._write_manifest()

    def _write_manifest(self) -> None:
        manifest = {"digest": self._digest, "stages": self._stages}
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=1))

    def run_stage(
        self,
        name: str,
        files: Sequence[Path],
        function: Callable[[], Any],
        *,
        leads_on: bool = True,
    ) -> Any:
        """Run a stage unless it is finished and its files are as it left them.

        Where it is run again, so are those behind it, unless nothing comes of it. Its
        result is given as JSON gives it back, in this run as in one that goes on.
        """
        finished = self._stages.get(name)
        if finished is not None and _are_as_left(files, finished["files"]):
            return finished["result"]
        if finished is not None and leads_on:
            self._forget_from(name)
        begin = time.monotonic()
        with noted_warnings() as notes:
            result = json.loads(json.dumps(function()))
        self._stages[name] = {
            "result": result,
            "files": [_described(file) for file in files],
            "seconds": round(time.monotonic() - begin, 2),
            "warnings": notes,
        }
        self._write_manifest()
        return result

    def _forget_from(self, name: str) -> None:
        """Forget a stage and those behind it."""
        names = list(self._stages)
        for later in names[names.index(name) :]:
            del self._stages[later]
        self._write_manifest()

    def seconds(self) -> dict[str, float]:
        """Give the time of each finished stage; of a resumed one its last run."""
        return {name: stage["seconds"] for name, stage in self._stages.items()}

    def warnings(self) -> list[str]:
        """Give what the finished stages warned of, in their order."""
        texts = (stage.get("warnings", []) for stage in self._stages.values())
        return [text for found in texts for text in found]

    def save_variables(
        self, variables: Sequence[Any], position: int, stage: str = ""
    ) -> None:
        """Save variables, and how many segments of a training are finished."""
        import keras

        arrays: dict[str, Any] = {
            f"v{index}": _storable(keras.ops.convert_to_numpy(variable.value))
            for index, variable in enumerate(variables)
        }
        if self.best is not None:
            for index, value in enumerate(self.best.values):
                arrays[f"b{index}"] = _storable(value)
            arrays["best"] = np.array([self.best.epoch, self.best.score], np.float64)
        arrays["position"] = np.int64(position)
        arrays["stage"] = np.frombuffer(stage.encode(), np.uint8)
        arrays["history"] = np.frombuffer(json.dumps(self.history).encode(), np.uint8)
        with (
            atomic_path(self.folder / _VARIABLES) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, allow_pickle=False, **arrays)

    def restore_variables(self, variables: Sequence[Any], stage: str = "") -> int:
        """Give variables their saved values; return the finished segments, else 0.

        What another training saved is passed over.
        """
        path = self.folder / _VARIABLES
        if not path.is_file():
            return 0
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                # Version 0.1 did not say which training it was.
                if "stage" in saved and saved["stage"].tobytes() != stage.encode():
                    return 0
                arrays = _numbered(saved, "v")
                self.best = _best_of(saved)
                position = int(saved["position"])
                self.history = json.loads(saved["history"].tobytes())
            if [a.shape for a in arrays] != [tuple(v.shape) for v in variables]:
                raise ValueError("it holds other variables")
        except DAMAGE as error:
            raise CompressionError(
                f"Cannot go on from {path}: {error}. Start afresh with `restart=True` "
                "(--restart)."
            ) from error
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return position

    def begin_training(self) -> None:
        """Forget history and best epoch of an earlier training of this run."""
        self.history, self.best = [], None

    def forget_variables(self) -> None:
        """Remove the saved variables once training is finished."""
        (self.folder / _VARIABLES).unlink(missing_ok=True)


def digest_of(parts: Iterable[Any]) -> str:
    """Digest of values: arrays, bytes, files (as paths) and anything JSON can hold.

    Example:
        >>> digest_of([{"a": 1}]) == digest_of([{"a": 1}])
        True
    """
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        if isinstance(part, os.PathLike):
            with open(part, "rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        elif isinstance(part, np.ndarray) and part.dtype != object:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
        elif isinstance(part, bytes):
            digest.update(part)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def remove_files(folder: Path, patterns: Iterable[str]) -> None:
    """Remove the files in a folder, not below it, that match any of the patterns."""
    for pattern in patterns:
        for file in folder.glob(pattern):
            if file.is_file() or file.is_symlink():
                file.unlink()


def _numbered(saved: Any, letter: str) -> list[Any]:
    """The arrays of a file that are called by a letter and a number, in order."""
    count = sum(re.fullmatch(rf"{letter}\d+", name) is not None for name in saved.files)
    return [saved[f"{letter}{index}"] for index in range(count)]


def _best_of(saved: Any) -> BestEpoch | None:
    if "best" not in saved:
        return None
    epoch, score = saved["best"].tolist()
    return BestEpoch(epoch=int(epoch), score=score, values=_numbered(saved, "b"))


def _described(file: Path, length: int = 3) -> list[Any]:
    """Name, size and digest of a file; version 0.1 kept the first two."""
    if not file.is_file():
        return [file.name, None, None][:length]
    return [file.name, file.stat().st_size, digest_of([file])][:length]


def _are_as_left(files: Sequence[Path], left: Sequence[Sequence[Any]]) -> bool:
    by_name = {file.name: file for file in files}
    return all(
        name in by_name and _described(by_name[name], 1 + len(rest)) == [name, *rest]
        for name, *rest in left
    )


def _is_stage(stage: Any) -> bool:
    """Whether a value is what a manifest keeps of a stage."""
    return (
        "result" in stage
        and isinstance(stage["seconds"], (int, float))
        and isinstance(stage.get("warnings", []), list)
        and all(isinstance(name, str) for name, *_ in stage["files"])
    )


def _storable(array: Any) -> Any:
    """float32 for the small float types that NumPy files do not know; it is exact."""
    return array if array.dtype.kind in "biuf" else array.astype(np.float32)
