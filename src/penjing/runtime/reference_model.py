"""`.tflite` files of fixed sizes: by reference kernels, or by those in use here."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penjing.runtime.interpreter import LiteRTModel
from penjing.runtime.loaded_file import FileElsewhere, LoadedFile
from penjing.runtime.reference_runner import ReferenceRunner

Array = np.ndarray[Any, Any]


class ReferenceModel(LiteRTModel):
    """A file by LiteRT's reference kernels, in a process of its own.

    Sizes that the file leaves free are those that it stores: a batch of 1. Where these
    kernels lack an operator, as DENSIFY, plain ones for this machine run the file.

    Example:
        >>> ReferenceModel(Path("model.tflite")).predict(images)  # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)

    def _loaded(self, content: bytes, threads: int, isolated: bool) -> LoadedFile:
        return _ReferenceFile(self.path, content)


class FixedModel(LiteRTModel):
    """A file by the kernels of this machine, in a process of its own.

    Sizes that the file leaves free are those that it stores: a batch of 1.

    Example:
        >>> FixedModel(Path("model.tflite")).inputs[0].shape  # doctest: +SKIP
        (1, 28, 28, 1)
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)

    def _loaded(self, content: bytes, threads: int, isolated: bool) -> LoadedFile:
        file = FileElsewhere(self.path, threads)
        file.description = fixed_description(file.description)
        return file


class _ReferenceFile:
    def __init__(self, path: Path, content: bytes) -> None:
        self.description = fixed_description(FileElsewhere(path, 1).description)
        self._where, self._content = str(path), content
        self._runner = ReferenceRunner()
        weakref.finalize(self, self._runner.close)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        run = self._runner.run(self._content, [arrays], where=self._where)
        return run.outputs[0]


def fixed_description(description: dict[str, Any]) -> dict[str, Any]:
    """What a file takes and gives, where its free sizes are those that it stores."""
    sides = {
        side: [{**tensor, "signature": tensor["shape"]} for tensor in description[side]]
        for side in ("inputs", "outputs")
    }
    return {**description, **sides}
