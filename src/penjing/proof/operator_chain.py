"""Whether outputs that differ are the sum of roundings, each of them right.

Fast kernels of integers round by a step otherwise than the reference kernels do. Later
layers multiply that, and a softmax that is undecided makes a tenth of the outputs of
it: no bound on outputs tells that from a kernel that is wrong. So every operator runs
by itself, on the inputs that it has in the chain of fast ones, by fast kernels and by
plain ones. If each rounds by no more than its kind of arithmetic does, and the whole
file gives what the chain gives, then nothing but roundings is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.proof.output_comparison import Run
from penjing.runtime.interpreter import described_tensors
from penjing.runtime.operator_files import SingleOperator, single_operators
from penjing.runtime.reference_model import fixed_description
from penjing.runtime.reference_runner import ReferenceRunner
from penjing.runtime.tflm.operator_differences import (
    FLOAT_TOLERANCE,
    distance,
    excess,
)
from penjing.runtime.trials import FileRunner
from penjing.tflite.loading import load_records
from penjing.tflite.tensors import tensor_name

_AT_ONCE = 16  # runs, whose tensors are kept

Array = np.ndarray[Any, Any]


def more_than_rounding(content: bytes, where: str, runs: Sequence[Run]) -> str | None:
    """What of a file's outputs on this machine is more than the sum of roundings.

    A sentence; None where all of it is rounding. Messages call the file `where`.
    """
    with FileRunner() as fast, ReferenceRunner() as plain:
        chain = _Chain(content, where, fast, plain)
        for start in range(0, len(runs), _AT_ONCE):
            found = chain.fault(runs[start : start + _AT_ONCE])
            if found is not None:
                return found
    return None


class _Chain:
    """The operators of a file, each a file of its own.

    `_values` are those of the tensors: for each an array of every run.
    """

    def __init__(
        self, content: bytes, where: str, fast: FileRunner, plain: ReferenceRunner
    ) -> None:
        self._where, self._fast, self._plain = where, fast, plain
        self._graph = load_records(content, where)["subgraphs"][0]
        self._singles = single_operators(content, where)
        described = fixed_description(fast.run(content, [], where).description)
        self._places = described_tensors(described)[2]
        self._values: dict[int, list[Array]] = {}

    def fault(self, runs: Sequence[Run]) -> str | None:
        """What is more than rounding in some runs; None where nothing is."""
        inputs = zip(*(given for given, _ in runs), strict=True)
        numbers = map(int, self._graph["inputs"])
        self._values = dict(zip(numbers, map(list, inputs), strict=True))
        for single in self._singles:
            found = self._fault_of(single, range(len(runs)))
            if found is not None:
                return found
        made = [int(self._graph["outputs"][place]) for place in self._places]
        for run, (_, outputs) in enumerate(runs):
            for number, mine in zip(made, outputs, strict=True):
                if not _equal(mine, self._values[number][run]):
                    return (
                        "Each operator is right by itself, but the whole file gives "
                        f"something else at {self._name(number)!r}."
                    )
        return None

    def _fault_of(self, single: SingleOperator, runs: range) -> str | None:
        """Run an operator, and keep what it gives, unless it is wrong."""
        where = f"{single.name} of {self._where}"
        if single.content is None:
            return f"{single.name} cannot be run by itself, so it was not judged."
        rounds = [[self._given(run, number) for number in single.given] for run in runs]
        try:
            both = self._fast.run(single.content, rounds, where).outputs
            plain = self._plain.run(single.content, rounds, where=where).outputs
        except FileFormatError as error:
            return (
                f"{single.name} cannot be run by itself, so it was not judged: {error}"
            )
        fast, optimized = ([r for r in runs if not isinstance(r, str)] for runs in both)
        if len(fast) < len(rounds) or len(optimized) < len(rounds):
            return f"{single.name} refuses its inputs where it runs by itself."
        operator = self._graph["operators"][single.number]
        for place, number in enumerate(map(int, operator["outputs"])):
            mine = self._values[number] = [outputs[place] for outputs in fast]
            others = ([run[place] for run in runs] for runs in (plain, optimized))
            excesses = (self._excess(number, mine, other) for other in others)
            if min(excesses) > 0:
                return (
                    f"{single.name} {self._name(number)!r} differs by more than "
                    "rounding where it runs by itself, on the same inputs."
                )
        return None

    def _given(self, run: int, number: int) -> Array:
        shape = [int(size) for size in self._graph["tensors"][number]["shape"]]
        return self._values[number][run].reshape(shape)

    def _excess(
        self, number: int, mine: Sequence[Array], other: Sequence[Array]
    ) -> float:
        """By how much outputs of an operator differ by more than it may round."""
        tensor = self._graph["tensors"][number]
        pairs = zip(mine, other, strict=True)
        return max(excess(distance(*pair), None, tensor) for pair in pairs)

    def _name(self, number: int) -> str:
        return tensor_name(self._graph["tensors"][number])


def _equal(mine: Array, other: Array) -> bool:
    """Whether outputs are equal, floats to the last bits."""
    found = distance(mine, other)
    return found.relative <= (FLOAT_TOLERANCE if mine.dtype.kind == "f" else 0.0)
