"""One file in TFLM and by LiteRT's reference kernels, on the same samples: judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penjing.errors import ExportError
from penjing.runtime.operator_files import SingleOperator, single_operators
from penjing.runtime.reference_runner import (
    OPTIMIZED,
    REFERENCE,
    ReferenceRun,
    ReferenceRunner,
)
from penjing.runtime.tflm.file_in_tflm import FileInTflm
from penjing.runtime.tflm.loop_bodies import LoopBody
from penjing.runtime.tflm.operator_differences import (
    Distance,
    OperatorDifference,
    count_steps,
    distance,
    excess,
    has_steps,
    is_float,
    rounding,
    step_of,
)
from penjing.runtime.tflm.tflm_runner import TFLM, TflmRun
from penjing.tflite.operators import Call, Operator
from penjing.tflite.records import Record

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputDifference:
    """How far an output is from that of the reference kernels, over all samples.

    `steps` is None where no integers stand behind it; `real` is in real values.
    """

    name: str
    steps: float | None
    real: float
    relative: float
    is_wrong: bool

    def __str__(self) -> str:
        found = f"{self.real:.3g}, {self.relative:.2g} of the largest magnitude"
        return found if self.steps is None else f"{count_steps(self.steps)} ({found})"


class RunPair:
    """What the two runs of a file gave, in which `watched` tensors were kept.

    `count` is the number of samples, and `kernels` says which of LiteRT's gave what it
    is compared with. `check_file` refuses a file that is wrong on
    samples; it is asked about the bodies of loops, and about samples whose tensors were
    not kept.
    """

    def __init__(
        self,
        file: FileInTflm,
        rounds: Sequence[Sequence[Array]],
        run: TflmRun,
        expected: ReferenceRun,
        watched: Sequence[int],
        check_file: Callable[[FileInTflm, list[list[Array]]], None],
    ) -> None:
        self._check_file = check_file
        self._file, self._rounds = file, rounds
        self._run, self._expected = run, expected
        self._places = {number: place for place, number in enumerate(watched)}
        self._samples = range(len(run.kept))
        self.kernels = "reference" if expected.kernels == REFERENCE else "optimized"
        self.count = len(rounds)

    def differences(self) -> list[OperatorDifference]:
        """The operators that do not give the same, in their order."""
        numbers = range(len(self._file.calls))
        return [found for found in map(self._difference, numbers) if found is not None]

    def check_operators(
        self, found: Sequence[OperatorDifference], runner: ReferenceRunner
    ) -> None:
        """Refuse a file with an operator that is wrong by itself.

        Each that seems so runs alone, by both kinds of kernels.
        """
        for one in found:
            if one.is_wrong:
                alone = self._alone([one.number], runner)
                self._refuse_wrong([one] if alone is None else alone)

    def _refuse_wrong(self, found: Sequence[OperatorDifference]) -> None:
        wrong = next((one for one in found if one.is_wrong), None)
        if wrong is not None:
            raise ExportError(
                f"{self._file.where} is wrong in {TFLM}: on the same inputs the output "
                f"of {wrong} differs from that of LiteRT's kernels, where "
                f"{_allowed(wrong)} is rounding. Do not ship it."
            )

    def check_places(self) -> None:
        """Refuse outputs that depend on where tensors lie in the arena."""
        for sample in self._samples:
            pairs = zip(
                self._run.outputs[sample], self._run.kept_outputs[sample], strict=True
            )
            if any(distance(mine, other).absolute for mine, other in pairs):
                raise ExportError(
                    f"{self._file.where} is wrong in {TFLM}: its outputs change with "
                    "the places of its tensors in the arena. Do not ship it."
                )

    def outputs(self) -> list[OutputDifference]:
        """How far each output is from that of the reference kernels."""
        samples, places = range(self.count), range(len(self._file.outputs))
        return [self._output(place, samples) for place in places]

    def check_outputs(
        self, tolerance: float | None, runner: ReferenceRunner, first: str
    ) -> None:
        """Refuse outputs that differ, unless that is the sum of many roundings.

        That is so where each operator gives, on the inputs that it has in TFLM, what
        the reference kernels give. A difference up to `tolerance` of the largest
        magnitude is let pass. `first` says which operator differs first.
        """
        for place in range(len(self._file.outputs)):
            single = [self._output(place, [sample]) for sample in range(self.count)]
            wrong = [
                sample
                for sample, output in enumerate(single)
                if output.is_wrong
                and (tolerance is None or output.relative > tolerance)
            ]
            if wrong:
                worst = max(wrong, key=lambda sample: _size(single[sample]))
                self._check_output(single[worst], worst, runner, first)

    def _check_output(
        self, output: OutputDifference, sample: int, runner: ReferenceRunner, first: str
    ) -> None:
        """Refuse a sample whose operators do not all compute what they should.

        Where its tensors were not kept, it is run again, alone.
        """
        alone = None
        if sample not in self._samples:
            numbers = range(len(self._file.calls))
            if not any(map(self._file.keeps_state, numbers)):
                self._check_file(self._file, [list(self._rounds[sample])])
                return
        elif np.isfinite(output.relative):
            alone = self._alone(self._unjudged(), runner)
        if alone is None:
            raise ExportError(
                f"{self._file.where} is wrong in {TFLM}: its output {output.name!r} "
                f"differs from that of LiteRT's {self.kernels} kernels by {output}. "
                f"{first}Do not ship it, unless it keeps its accuracy on real samples: "
                "then `tolerance` (--tolerance) lets pass so large a share of the "
                "largest magnitude."
            )
        self._refuse_wrong(alone)

    def _unjudged(self) -> list[int]:
        """The operators that had other inputs than in LiteRT."""
        return [
            number
            for number in range(len(self._file.calls))
            if not all(self._has_same_inputs(s, number) for s in self._samples)
        ]

    def _difference(self, number: int) -> OperatorDifference | None:
        """How an operator differs, on the same inputs if there are any such samples."""
        same: list[tuple[Distance, int]] = []
        other: list[tuple[Distance, int]] = []
        for sample in self._samples:
            found = same if self._has_same_inputs(sample, number) else other
            found += [
                (self._distance(sample, n), n) for n in self._file.calls[number].outputs
            ]
        for distances in (same, other):
            differing = [pair for pair in distances if pair[0].relative]
            if differing:
                worst = max(differing, key=lambda pair: self._excess(number, *pair))
                return self._described(number, *worst, same_inputs=distances is same)
        return None

    def _excess(self, number: int, found: Distance, tensor: int) -> float:
        """By how much a tensor that an operator gives differs by more than rounding."""
        return excess(found, self._file.calls[number].code, self._file.tensors[tensor])

    def _described(
        self, number: int, found: Distance, tensor: int, *, same_inputs: bool
    ) -> OperatorDifference:
        table = self._file.tensors[tensor]
        finite = np.isfinite(found.absolute)
        return OperatorDifference(
            number=number,
            operator=self._file.operator_name(number),
            tensor=self._file.tensor_name(tensor),
            steps=int(found.absolute) if has_steps(table) and finite else None,
            relative=found.relative,
            allowed=rounding(self._file.calls[number].code, table),
            same_inputs=same_inputs,
        )

    def _has_same_inputs(self, sample: int, number: int) -> bool:
        if sample and self._file.keeps_state(number):
            return False
        inputs = self._file.calls[number].inputs
        return not any(self._distance(sample, n).absolute for n in inputs)

    def _distance(self, sample: int, number: int) -> Distance:
        """Of a tensor that an operator gives; zero for inputs and constants."""
        place = self._places.get(number)
        if place is None:
            return Distance(absolute=0.0, relative=0.0)
        expected = self._expected.tensors[sample][place]
        return distance(self._run.kept[sample][place], expected)

    def _output(self, place: int, samples: Sequence[int]) -> OutputDifference:
        mine, expected = self._run.outputs, self._expected.outputs
        distances = [distance(mine[s][place], expected[s][place]) for s in samples]
        absolute = max(found.absolute for found in distances)
        relative = max(found.relative for found in distances)
        number = self._file.outputs[place]
        step = step_of(self._file.tensors[number])
        table = _behind(self._file, number)
        allowed, found = rounding(None, table), relative
        if has_steps(table):
            found = absolute * step / step_of(table)
        steps = found if has_steps(table) else None
        if steps is not None and np.isfinite(steps):
            steps = round(steps, 3)
        return OutputDifference(
            name=self._file.tensor_name(number),
            steps=steps,
            real=absolute * step,
            relative=relative,
            is_wrong=not found <= allowed * (1 + 1e-3),
        )

    def _alone(
        self, numbers: Sequence[int], runner: ReferenceRunner
    ) -> list[OperatorDifference] | None:
        """How operators differ, each run by itself on the inputs that it has in TFLM.

        None where one cannot run by itself.
        """
        content, where = self._file.content, self._file.where
        singles = {one.number: one for one in single_operators(content, where)}
        found = []
        for number in numbers:
            single = singles.get(number)
            if self._checked_loop(number, runner):
                continue
            if single is None or single.content is None:
                return None
            found += [self._alone_difference(runner, single)]
        return [one for one in found if one is not None]

    def _checked_loop(self, number: int, runner: ReferenceRunner) -> bool:
        """Refuse a loop with a wrong operator in it; whether it is a loop."""
        call = self._file.calls[number]
        if call.code != Operator.WHILE or not self._has_values(call):
            return False
        name = f"the loop `{self._file.tensor_name(call.output)}`"
        where = f"{name} of {self._file.where}"
        loop = LoopBody(self._file.content, where, number)
        columns = list(zip(loop.given, loop.constants, strict=True))
        starts = [
            [self._value(s, n) if c is None else c for n, c in columns]
            for s in self._samples
        ]
        entered, asked = loop.turns(starts, runner, where)
        if entered:
            self._check_file(FileInTflm(loop.content or b"", where), entered)
        condition = FileInTflm(loop.condition or b"", f"the condition of {where}")
        self._check_file(condition, asked)
        self._check_turns(name, loop, call, runner)
        return True

    def _has_values(self, call: Call) -> bool:
        """Whether all that an operator gives was kept: a resource is not."""
        return all(number in self._places for number in call.outputs)

    def _check_turns(
        self, name: str, loop: LoopBody, call: Call, runner: ReferenceRunner
    ) -> None:
        """Refuse a loop that does not take the turns that it takes in LiteRT."""
        tensors = self._file.tensors
        counters = [
            n
            for n in call.outputs
            if not (is_float(tensors[n]) or has_steps(tensors[n]))
        ]
        unequal = any(
            self._distance(s, n).absolute for s in self._samples for n in counters
        )
        ends = [[self._value(s, n) for n in call.outputs] for s in self._samples]
        where = f"the condition of {name}"
        if unequal or loop.goes_on(ends, runner, where):
            raise ExportError(
                f"{self._file.where} is wrong in {TFLM}: {name} does not take as many "
                "turns there as in LiteRT, or counts them otherwise. Do not ship it."
            )

    def _alone_difference(
        self, runner: ReferenceRunner, single: SingleOperator
    ) -> OperatorDifference | None:
        """How an operator differs from the kernels that it is nearest to."""
        samples = self._samples

        def by_excess(pair: tuple[Distance, int]) -> float:
            return self._excess(single.number, *pair)

        rounds = [[self._value(s, n) for n in single.given] for s in samples]
        outputs = self._file.calls[single.number].outputs
        worst = []
        for kernels in (REFERENCE, OPTIMIZED):
            where = f"{single.name} of {self._file.where}"
            expected = runner.run(
                single.content or b"", rounds, where=where, kernels=kernels
            )
            pairs = [
                (distance(self._value(s, n), expected.outputs[s][place]), n)
                for s in samples
                for place, n in enumerate(outputs)
            ]
            worst.append(max(pairs, key=by_excess))
        nearest = min(worst, key=by_excess)
        if not nearest[0].relative:
            return None
        return self._described(single.number, *nearest, same_inputs=True)

    def _value(self, sample: int, number: int) -> Array:
        """An input of the file, or what an operator gives in TFLM."""
        place = self._places.get(number)
        if place is None:
            return self._rounds[sample][self._file.inputs.index(number)]
        shape = [int(size) for size in self._file.tensors[number]["shape"]]
        return self._run.kept[sample][place].reshape(shape)


def allowed_difference(file: FileInTflm, output: int, values: Array) -> float:
    """By how much an output may differ by rounding, in numbers as they are stored."""
    table = _behind(file, output)
    if has_steps(table):
        return rounding(None, table) * step_of(table) / step_of(file.tensors[output])
    return rounding(None, table) * float(np.abs(values).max(initial=0.0))


def _behind(file: FileInTflm, output: int) -> Record:
    """The tensor whose arithmetic an output has: before a DEQUANTIZE integers."""
    maker = file.maker_of(output)
    if maker is not None and maker.code == Operator.DEQUANTIZE and maker.inputs:
        return file.tensors[maker.inputs[0]]
    return file.tensors[output]


def _size(output: OutputDifference) -> float:
    return output.relative if output.steps is None else output.steps


def _allowed(found: OperatorDifference) -> str:
    return f"{found.allowed:g}" if found.steps is None else count_steps(found.allowed)
