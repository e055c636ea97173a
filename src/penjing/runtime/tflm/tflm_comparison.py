"""Whether TFLM computes what LiteRT's reference kernels compute, operator by operator.

Outputs alone do not tell: a softmax that is sure of itself hides much, and roundings of
many operators add up. So the values of all tensors are compared. An operator whose
inputs are the same in both may differ by what its kind of arithmetic rounds, and by no
more; there a wrong one shows first, and it is named. Where outputs differ by more than
one operator may round, each operator is run by itself on the inputs that it has in
TFLM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from penjing.errors import ExportError
from penjing.json_values import JsonValue
from penjing.runtime.reference_runner import OPTIMIZED, ReferenceRunner
from penjing.runtime.tflm.file_in_tflm import FileInTflm
from penjing.runtime.tflm.operator_differences import OperatorDifference, distance
from penjing.runtime.tflm.run_pair import OutputDifference, RunPair
from penjing.runtime.tflm.tflm_runner import TFLM, Arena, TflmRun, TflmRunner

SAMPLES = 4
"""Random samples that a file is compared on, beside those at the ends of the types."""

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TflmComparison(JsonValue):
    """What a file does in TFLM, which is right.

    Attributes:
        samples: How many samples were compared.
        steps: Largest difference of an output behind which integers stand, in their
            steps; None where there is none.
        difference: Largest difference of an output, in real values.
        relative_difference: The same over the largest magnitude of that output.
        first_difference: The first operator that rounds otherwise; None where all
            tensors are equal.
        arena: RAM that TFLM works in.
        operators: Names of the operators that the file needs, sorted, those of TFLM's
            own too.
        flash: Bytes of the file, which lies in flash as it is.
        twin_arena: RAM for the twin that it was compared with; None without one.
        twin_flash: Flash for the twin.
        kernels: Which of LiteRT's it was compared with: "reference", or "optimized"
            ones, those for this machine, where the reference ones do not run the file
            or have an operator of it wrong.
        passed_by: Why differences of outputs are right: "rounding" of one operator, if
            any; "summed roundings" of operators that are each right; "tolerance", which
            the user gave.
    """

    samples: int
    steps: float | None
    difference: float
    relative_difference: float
    first_difference: OperatorDifference | None
    arena: Arena
    operators: tuple[str, ...]
    flash: int
    twin_arena: Arena | None = None
    twin_flash: int | None = None
    kernels: str = "reference"
    passed_by: str = "rounding"

    def __str__(self) -> str:
        first = f"All tensors are those of LiteRT's {self.kernels} kernels. "
        if self.first_difference is not None:
            first = (
                f"The first to round otherwise than LiteRT's {self.kernels} kernels is "
                f"{self.first_difference}. "
            )
        if self.passed_by != "rounding":
            first += f"Outputs pass by {self.passed_by}. "
        twin = ""
        if self.twin_arena is not None and self.twin_flash is not None:
            twin = (
                f" Its twin takes {self.twin_flash:,} bytes of flash and "
                f"{self.twin_arena.total:,} of RAM."
            )
        return (
            f"{first}{self.flash:,} bytes of flash; {self.arena}.{twin} Operators: "
            f"{', '.join(self.operators)}."
        )


def compare_in_tflm(
    content: bytes,
    *,
    where: str = "the file",
    twin: bytes | None = None,
    inputs: Sequence[Sequence[Array]] | None = None,
    samples: int = SAMPLES,
    finite: int | None = None,
    tolerance: float | None = None,
) -> TflmComparison:
    """Prove that TFLM computes what LiteRT's reference kernels do.

    Args:
        content: The file, without free sizes.
        where: What messages call it.
        twin: A file of the same network, in which weights are stored otherwise; a
            packed file needs its plain one, as LiteRT does not run packed ones. The
            twin is compared with LiteRT, and both files must give the same in TFLM, bit
            for bit.
        inputs: Samples, for each one array for each input of the file, as it stores
            them. None: seeded random ones and the ends of the types.
        samples: How many random ones.
        finite: Of how many of the first `inputs` outputs must be numbers; None: of all.
            Of random ones they must be, of the ends of types they need not.
        tolerance: Difference of outputs over their largest magnitude that is let pass
            where all operators seem right. None: what an operator may round, 2 steps of
            int8, 4 of int16, 1e-5 of floats, or what is proven to be the sum of such.

    Returns:
        Differences, arena and operators.

    Raises:
        ExportError: If an operator or an output differs by more; the operator is named.
            If outputs are no numbers.
        FileFormatError: If the file leaves sizes free, is corrupt, or does not run in
            TFLM or in LiteRT; if it is packed and has no twin.
        DataError: If samples cannot be made, as of texts.
        MissingDependencyError: If TFLM or LiteRT is not installed.

    Example:
        >>> compare_in_tflm(content).arena.total  # doctest: +SKIP
        24448
    """
    known = samples if inputs is None else len(inputs) if finite is None else finite
    with TflmRunner() as runner, ReferenceRunner() as reference:
        room = max(len(content), len(twin or b""))
        runner.start(room)
        reference.start(room)
        file = FileInTflm(content, where)
        if twin is None:
            file.check_plain()
            rounds = _rounds(file, inputs, samples)
            found, run = _compared(file, rounds, runner, reference, tolerance)
            _check_numbers(file, run, known)
            return found
        plain = FileInTflm(twin, f"the twin of {where}")
        file.check_ends(plain)
        rounds = _rounds(plain, inputs, samples)
        found, expected = _compared(plain, rounds, runner, reference, tolerance)
        _check_numbers(plain, expected, known)
        run = runner.run(content, rounds, where=where)
        _check_twins(where, run, expected)
        return dataclasses.replace(
            found,
            arena=run.arena,
            operators=file.operators,
            flash=len(content),
            twin_arena=found.arena,
            twin_flash=found.flash,
        )


def _rounds(
    file: FileInTflm, inputs: Sequence[Sequence[Array]] | None, samples: int
) -> list[list[Array]]:
    if inputs is None:
        return file.rounds(samples)
    return [list(arrays) for arrays in inputs]


def _compared(
    file: FileInTflm,
    rounds: list[list[Array]],
    runner: TflmRunner,
    reference: ReferenceRunner,
    tolerance: float | None,
) -> tuple[TflmComparison, TflmRun]:
    """A plain file in TFLM and in LiteRT, both at the same time."""
    watched = file.watched(len(rounds))
    asked = {"where": file.where, **watched}
    with ThreadPoolExecutor(1) as other:
        expected = other.submit(reference.run, file.content, rounds, **asked)
        run = runner.run(file.content, rounds, **asked)
        first = expected.result()

    def check_file(body: FileInTflm, samples: list[list[Array]]) -> None:
        _compared(body, samples, runner, reference, tolerance)

    pair = RunPair(file, rounds, run, first, watched["tensors"], check_file)
    if any(one.is_wrong for one in pair.differences()):  # the reference may be
        second = reference.run(file.content, rounds, kernels=OPTIMIZED, **asked)
        pair = RunPair(file, rounds, run, second, watched["tensors"], check_file)
    return _judged(file, pair, run.arena, reference, tolerance), run


def _judged(
    file: FileInTflm,
    pair: RunPair,
    arena: Arena,
    reference: ReferenceRunner,
    tolerance: float | None,
) -> TflmComparison:
    found = pair.differences()
    pair.check_operators(found, reference)
    pair.check_places()
    first = f"The first that differs is {found[0]}. " if found else ""
    pair.check_outputs(tolerance, reference, first)
    outputs = pair.outputs()
    steps = [output.steps for output in outputs if output.steps is not None]
    return TflmComparison(
        samples=pair.count,
        steps=max(steps, default=None),
        difference=max((output.real for output in outputs), default=0.0),
        relative_difference=max((one.relative for one in outputs), default=0.0),
        first_difference=found[0] if found else None,
        arena=arena,
        operators=file.operators,
        flash=len(file.content),
        kernels=pair.kernels,
        passed_by=_passed_by(outputs, tolerance),
    )


def _passed_by(outputs: Sequence[OutputDifference], tolerance: float | None) -> str:
    """Why outputs are right that were not refused; the weakest of the reasons."""
    large = [output.relative for output in outputs if output.is_wrong]
    if not large:
        return "rounding"
    within = tolerance is not None and min(large) <= tolerance
    return "tolerance" if within else "summed roundings"


def _check_numbers(file: FileInTflm, run: TflmRun, samples: int) -> None:
    """Refuse outputs that are no numbers, in LiteRT too.

    At the ends of the types, which come after the samples, a network may give such: one
    that divides by the range of its input does for zeros, and in Keras too.
    """
    for sample, outputs in enumerate(run.outputs[:samples], 1):
        for number, values in zip(file.outputs, outputs, strict=True):
            if not np.isfinite(np.asarray(values, "f8")).all():
                raise ExportError(
                    f"{file.where} gives no numbers in {TFLM}, nor in LiteRT: its "
                    f"output {file.tensor_name(number)!r} holds NaN or infinity in "
                    f"sample {sample} of {samples}. Do not ship it: look for weights "
                    "that are no numbers, and for divisions and logarithms of zero."
                )


def _check_twins(where: str, run: TflmRun, expected: TflmRun) -> None:
    """Refuse a file that does not give what its twin gives, bit for bit."""
    pairs = [
        pair
        for sides in zip(run.outputs, expected.outputs, strict=True)
        for pair in zip(*sides, strict=True)
    ]
    if all(mine.tobytes() == other.tobytes() for mine, other in pairs):
        return
    found = max(distance(mine, other).absolute for mine, other in pairs)
    raise ExportError(
        f"{where} does not give in {TFLM} what its twin gives there: stored outputs "
        f"differ by {found:.3g}. Is the twin of the same network? Then do not ship it."
    )
