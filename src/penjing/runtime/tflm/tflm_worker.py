"""Runs `.tflite` files in TFLM in a process of its own; see `worker_process`.

It is a script that imports neither Keras nor penjing. TFLM says on standard error, from
C++, why it refuses a file and what its arena holds: that is the log of this process,
which is read again through `/proc`, as the wheel is for Linux alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 16
_ERRORS = "/proc/self/fd/2"
_LONGEST_WORDS = 4000
_ARENA = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_MICRO = "[RecordingMicroAllocator]"
_FIRST_STEP = 1024
_LONGEST_TRY = 60  # seconds


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

        Gives for each round the outputs; what the arena holds, and as its `total` the
        smallest with which the file starts and runs; and the values of `tensors`,
        numbers of the main graph, for the first `kept` rounds, from a run of its own in
        which none takes the place of another. A RuntimeError has TFLM's words.
        """
        content = _aligned(Path(file).read_bytes())
        outputs, said = _recorded(content, rounds, arena)
        found = _preserved(content, rounds[:kept], arena, tensors) if kept else None
        parts = _arena(said)
        parts["total"] = _needed(content, rounds[:1], parts["total"], arena)
        return {"outputs": outputs, "arena": parts, "kept": found}


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


def _needed(
    content: bytes, rounds: list[list[np.ndarray]], recorded: int, arena: int
) -> int:
    """The smallest arena with which a file starts and runs; `arena` is known to do.

    It is more than what is recorded where planning needs more while the file starts: a
    description of each tensor, for a while.
    """
    starts = _least(lambda size: _runs(content, [], size), recorded, arena)
    return _least(lambda size: _runs(content, rounds, size), starts, arena)


def _least(is_enough: Callable[[int], bool], low: int, most: int) -> int:
    """The smallest multiple of 16 from `low` on that is enough; `most` is."""
    low = -(-low // ALIGNMENT) * ALIGNMENT
    if low >= most or is_enough(low):
        return min(low, most)
    step = _FIRST_STEP
    while low + step < most and not is_enough(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, most)
    while high - low > ALIGNMENT:
        middle = low + (high - low) // (2 * ALIGNMENT) * ALIGNMENT
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _runs(content: bytes, rounds: list[list[np.ndarray]], size: int) -> bool:
    """Whether a file starts in an arena of that size, and runs on the inputs.

    It is tried in a fork: in an arena that is too small TFLM may write where it must
    not, which ends the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forks beside threads
        child = os.fork()
    if not child:
        signal.alarm(_LONGEST_TRY)
        code = 1
        try:
            _try(content, rounds, size)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _try(content: bytes, rounds: list[list[np.ndarray]], size: int) -> None:
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(content, arena_size=size)
    for inputs in rounds:
        _outputs(interpreter, inputs, _output_count(content))


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
