"""Runs `.tflite` files in TFLM in a process of its own; see `worker_process`.

It is a script that imports neither Keras nor penjing. TFLM says on standard error, from
C++, why it refuses a file and what its arena holds: that is the log of this process,
which is read again through `/proc`, as the wheel is for Linux alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 16
_ERRORS = "/proc/self/fd/2"
_LONGEST_WORDS = 4000
_ARENA = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_MICRO = "[RecordingMicroAllocator]"


class Worker:
    """What it is asked for: `run`."""

    def __init__(self) -> None:
        # While the program prepares its order; what fails is told where it is used.
        with contextlib.suppress(ImportError):
            import tflite_micro  # noqa: F401

    def run(
        self,
        file: str,
        rounds: list[list[np.ndarray]],
        arena: int,
        tensors: Sequence[int] = (),
        kept: int = 0,
    ) -> dict[str, Any]:
        """Run a file on inputs, one after the other, in an arena of so many bytes.

        Gives for each round the outputs, what the arena holds, and the values of
        `tensors`, numbers of the main graph, for the first `kept` rounds, from a run of
        its own in which none takes the place of another. A RuntimeError has TFLM's
        words.
        """
        content = _aligned(Path(file).read_bytes())
        outputs, said = _recorded(content, rounds, arena)
        found = _preserved(content, rounds[:kept], arena, tensors) if kept else None
        return {"outputs": outputs, "arena": _arena(said), "kept": found}


def _aligned(content: bytes) -> bytes:
    """The file, where TFLM may read wide values from it in place."""
    address = np.frombuffer(content, np.uint8).ctypes.data
    if address % ALIGNMENT:  # CPython's own allocations never are
        raise RuntimeError(f"The file lies at {address:#x}, not at a multiple of 16.")
    return content


def _recorded(
    content: bytes, rounds: list[list[np.ndarray]], arena: int
) -> tuple[list[list[np.ndarray]], str]:
    from tflite_micro import runtime

    with _Words() as words:
        interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena)
        count = _output_count(content)
        outputs = [_outputs(interpreter, inputs, count) for inputs in rounds]
        interpreter.print_allocations()
    return outputs, words.end


def _preserved(
    content: bytes, rounds: list[list[np.ndarray]], arena: int, tensors: Sequence[int]
) -> dict[str, Any]:
    from tflite_micro import runtime

    with _Words():
        interpreter = runtime.Interpreter.from_bytes(
            content,
            arena_size=arena,
            intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
        )
        count = _output_count(content)
        outputs, values = [], []
        for inputs in rounds:
            outputs.append(_outputs(interpreter, inputs, count))
            found = [interpreter.GetTensor(number, 0) for number in tensors]
            values.append([np.array(one["tensor_data"]) for one in found])
    return {"outputs": outputs, "tensors": values}


def _output_count(content: bytes) -> int:
    """How many outputs a file has that TFLM has loaded: beyond them it has errors."""
    from tflite_micro import runtime

    model = runtime.schema_fb.Model.GetRootAsModel(content, 0)
    count = int(model.Subgraphs(0).OutputsLength())
    if not count:
        raise ValueError("It has no outputs.")
    return count


def _outputs(
    interpreter: Any, inputs: list[np.ndarray], count: int
) -> list[np.ndarray]:
    for place, array in enumerate(inputs):
        interpreter.set_input(array, place)
    interpreter.invoke()
    return [np.array(interpreter.get_output(place)) for place in range(count)]


def _arena(said: str) -> dict[str, int]:
    found = {part: int(size) for part, size in _ARENA.findall(said)}
    if set(found) != {"head", "tail", "total"}:
        raise RuntimeError("It does not say what its arena holds.")
    return found


class _Words:
    """What TFLM says inside the block, first and last; it ends the words of errors."""

    text = end = ""

    def __enter__(self) -> _Words:
        self._start = Path(_ERRORS).stat().st_size
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        with open(_ERRORS, "rb") as log:
            log.seek(self._start)
            self.text = log.read(_LONGEST_WORDS).decode("utf-8", "replace")
            size = log.seek(0, 2)
            log.seek(max(self._start, size - _LONGEST_WORDS))
            self.end = log.read(_LONGEST_WORDS).decode("utf-8", "replace")
        if isinstance(error, RuntimeError):
            raise RuntimeError(_sentences(self.text) or str(error)) from error


def _sentences(text: str) -> str:
    lines = (line.strip() for line in text.splitlines() if _MICRO not in line)
    return " ".join(
        line if line.endswith(".") else f"{line}." for line in lines if line
    )
