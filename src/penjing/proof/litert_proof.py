"""Proofs in LiteRT on this machine, whose kernels are not the reference ones."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penjing.files import temporary_folder
from penjing.measurement.machine import litert_name
from penjing.proof.file_proof import ProvingRuntime
from penjing.proof.operator_chain import more_than_rounding
from penjing.runtime.interpreter import described_tensors
from penjing.runtime.loaded_file import FileElsewhere
from penjing.runtime.reference_model import ReferenceModel, fixed_description
from penjing.runtime.timing import TimedFile
from penjing.tflite.loading import read_litert

Array = np.ndarray[Any, Any]


class LiteRTFile:
    """A file in two processes: one runs it on arrays, the other is timed."""

    def __init__(self, path: Path, threads: int) -> None:
        self._file = FileElsewhere(path, threads)
        self.timed = TimedFile(path, threads=threads)
        described = fixed_description(self._file.description)
        self.inputs, self.outputs, self._places = described_tensors(described)
        self._arrays: list[Array] = []

    def feed(self, arrays: Sequence[Array]) -> None:
        """Set the inputs of the following runs, as they are stored."""
        self._arrays = list(arrays)

    def run(self) -> list[Array]:
        """Run it once; gives one array for each output."""
        outputs = self._file.run(self._arrays)
        return [outputs[place] for place in self._places]

    def time(self, runs: int, *, cold_caches: bool = False) -> list[float]:
        """Run a block; gives milliseconds."""
        return self.timed.time(runs, cold_caches=cold_caches)


class LiteRTSession:
    """LiteRT, started; its processes end with the block."""

    def __init__(self, engine: str = "", *, threads: int = 1) -> None:
        if engine:
            raise ValueError(f"LiteRT has no `engine`, got {engine!r}. Leave it out.")
        self.runtime = litert_name()
        self._threads = threads
        self._stack = contextlib.ExitStack()
        self._folder = self._stack.enter_context(temporary_folder("penjing-proof"))

    def load(self, content: bytes, where: str) -> LiteRTFile:
        """Load a file, which messages call `where`."""
        number = len(list(self._folder.glob("*.tflite")))
        path = self._folder / f"{number}.tflite"
        path.write_bytes(content)
        file = LiteRTFile(path, self._threads)
        self._stack.enter_context(file.timed)
        return file

    def __enter__(self) -> LiteRTSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


X86 = ProvingRuntime(
    name="LiteRT on this machine",
    start=LiteRTSession,
    read=read_litert,
    read_twin=read_litert,
    wrong_to_twin="Sparse kernels run some files wrongly and say nothing: ship a dense "
    "file.",
    wrong_to_python="Its fast kernels compute something else than the reference: "
    "compare on real `inputs`, and export it anew.",
    reference=ReferenceModel,
    reference_name="the same file by LiteRT's reference kernels",
    beyond_rounding=more_than_rounding,
)
"""LiteRT in Python, compared with its own reference kernels."""
