"""The packed file beside the plain one in TFLM: equal outputs, or no file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from penjing.errors import ExportError
from penjing.runtime.sample_inputs import random_inputs, spec_of
from penjing.runtime.tflm import TflmRun, TflmRunner, has_tflm
from penjing.tflite.records import Record

SAMPLES = 4

Measure = Callable[[bytes], int]


class Comparison:
    """The plain file in TFLM, where that is installed, and packed ones beside it.

    It is a context manager: the plain file runs where the block begins, and a process
    ends with the block.

    Attributes:
        is_possible: Whether TFLM is installed.
        samples: On how many inputs files are compared; 0 where none can be.
    """

    def __init__(self, content: bytes, model: Record, where: str) -> None:
        self.is_possible = has_tflm()
        self.samples = SAMPLES if self.is_possible else 0
        self._where, self._content = where, content
        if self.is_possible:
            self._runner = TflmRunner()
            self._rounds = _rounds(model)

    def _run(self, content: bytes) -> TflmRun:
        return self._runner.run(content, self._rounds, where=self._where)

    def arena(self, content: bytes) -> int:
        """Bytes of the arena that a packed file needs, after its outputs are compared.

        An ExportError if they differ in any bit.
        """
        run = self._run(content)
        pairs = zip(self.plain.outputs, run.outputs, strict=True)
        if not all(_equal(plain, packed) for plain, packed in pairs):
            raise ExportError(
                f"{self._where} packed computes something else in TensorFlow Lite "
                "Micro, so it was not written. Keep the plain file, and please report "
                "it with the file."
            )
        return run.arena.total

    def __enter__(self) -> Comparison:
        if self.is_possible:
            try:
                self.plain = self._run(self._content)
            except BaseException:  # nobody ends the process of a block not entered
                self._runner.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_possible:
            self._runner.close()


def _equal(plain: list[Any], packed: list[Any]) -> bool:
    return len(plain) == len(packed) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(plain, packed, strict=True)
    )


def _rounds(model: Record) -> list[list[np.ndarray[Any, Any]]]:
    graph = model["subgraphs"][0]
    specs = [spec_of(graph["tensors"][int(number)]) for number in graph["inputs"]]
    return [random_inputs(specs, seed) for seed in range(SAMPLES)]
