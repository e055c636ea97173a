"""One step after the other, each proven on the runtime before it is taken."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from penjing.files import gzip_level
from penjing.runtime.trials import Trial
from penjing.shrinking.gzip_sizes import GzipSizes, split_file
from penjing.shrinking.shrink_report import ShrinkReport, ShrinkStep
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.records import Edit, Record
from penjing.tflite.writing import write_records

_MOST_TRIALS = 40  # of single edits, where they do not work all together
_MOST_BYTES_AHEAD = 2**27
_NOT_SMALLER = "no bytes to win"
_NOT_UNDERSTOOD = "the file is built in an unusual way"
# What malformed parts raise. The runtime checks only the parts that it runs.
_MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError)

Result = TypeVar("Result")


class _StepError(Exception):
    """A step is not taken; the text is the note for the report.

    `is_fault` says that no file explains it.
    """

    def __init__(self, note: str, *, is_fault: bool = False) -> None:
        super().__init__(note)
        self.is_fault = is_fault


@dataclasses.dataclass(frozen=True)
class Step:
    """A step to try, and a note for the report, where it is taken.

    Attributes:
        tolerance: Largest difference that it may add to the outputs.
        same_speed: Whether delegates must take over the same parts as before.
        raw_first: Whether it is to make the file itself smaller, whatever gzip makes
            of it; else the gzipped file counts, then the file.
        both: Whether both must get smaller.
    """

    name: str
    tolerance: float = 0.0
    note: str = ""
    same_speed: bool = True
    raw_first: bool = False
    both: bool = False

    def wins(self, raw: int, compressed: int) -> bool:
        """Whether these bytes, less than before, are worth it."""
        if self.both:
            return min(raw, compressed) > 0
        won = (raw, compressed) if self.raw_first else (compressed, raw)
        return won > (0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Candidate:
    """What an edit makes of the model: its table and its bytes."""

    model: Record
    content: bytes
    order: list[int] | None = None
    note: str = ""


class Stepwise:
    """The smallest file so far, and the steps that led to it.

    Edits are functions that change a copy of the model in place. A list that one
    returns says for each output its place in the original; a text is the note for the
    report. The given records are left as they are. Without a trial changed files are
    not run.

    Attributes:
        steps: The steps so far, those that were not taken too.
        failures: Names and notes of those that failed by a fault of this package.
        reached: Difference of outputs after those that were.
    """

    def __init__(self, content: bytes, model: Record, trial: Trial | None) -> None:
        self.trial = trial
        self.steps: list[ShrinkStep] = []
        self.failures: list[str] = []
        self.reached = 0.0
        self._original = content
        self._best = _Candidate(model=model, content=content)
        self._sizes = GzipSizes(gzip_level(len(content)))
        self._differences: dict[Any, float] = {}

    @property
    def content(self) -> bytes:
        """The smallest file so far."""
        return self._best.content

    @property
    def model(self) -> Record:
        """Its records, each content of a buffer once."""
        model = self._best.model.copy()
        share_buffers(model)
        return model

    def report(self, path: str) -> ShrinkReport:
        """What the steps won, `path` being the name of the file."""
        return ShrinkReport(
            path=path,
            raw_before=len(self._original),
            raw_after=len(self.content),
            gzip_before=self._sizes.of([self._original]),
            gzip_after=self._sizes.of([self.content]),
            gzip_level=self._sizes.level,
            steps=tuple(self.steps),
        )

    def take(self, step: Step, edit: Callable[[Record], Any]) -> bool:
        """Take a step if the file gets smaller and its outputs stay within bounds."""
        try:
            candidate = _edited(self._best, edit)
        except _StepError as error:
            return self._pass_over(step, error)
        return self._judge(step, candidate)

    def take_all(self, steps: Sequence[tuple[Step, Callable[[Record], Any]]]) -> None:
        """Take several steps, one after the other, as `take` does.

        Compressing takes most of the time, so it is done at once for what comes of them
        if each is taken.
        """
        ahead = [self._best]
        for _, edit in steps[: _MOST_BYTES_AHEAD // len(self.content)]:
            try:
                ahead.append(_edited(ahead[-1], edit))
            except _StepError:
                break
        self._compress(ahead)
        for step, edit in steps:
            self.take(step, edit)

    def take_first(self, step: Step, edits: Sequence[Callable[[Record], Any]]) -> None:
        """Take the first edit that can be taken; later ones win no more."""
        before = len(self.steps)
        for edit in edits:
            del self.steps[before:]
            if self.take(step, edit) or self.steps[-1].note == _NOT_SMALLER:
                return

    def take_best(self, step: Step, edits: Sequence[Edit]) -> None:
        """Take the one of several edits after which gzip finds the most."""
        found: list[_Candidate] = []
        failed: list[_StepError] = []
        for edit in edits:
            try:
                found.append(_edited(self._best, edit))
            except _StepError as error:
                failed.append(error)
        if found:
            self._compress(found)
            self._judge(step, min(found, key=self._gzip))
        elif failed:
            self._pass_over(step, failed[0])

    def take_each(
        self,
        step: Step,
        find: Callable[[Record], Sequence[Edit]],
        *,
        after: Edit | None = None,
    ) -> None:
        """Take as many of the edits that `find` gives for a model as work together.

        Each finds the same numbers of tensors and operators, whichever others are
        taken: what moves them is to be done `after` all.
        """
        edits = self.ask(step, find)
        if edits is None:
            return
        kept, failed = self._that_work_together(step, list(edits))
        if failed is not None and not kept:
            self._pass_over(step, failed)
            return
        note = f"{len(kept)} of {len(edits)} tensors" if edits else step.note
        last = [after] if after is not None and kept else []
        self.take(dataclasses.replace(step, note=note), _all_of([*kept, *last]))

    def _that_work_together(
        self, step: Step, edits: list[Edit]
    ) -> tuple[list[Edit], _StepError | None]:
        """Edits that can be taken, and why the last of those failed that did."""
        kept: list[Edit] = []
        failed: _StepError | None = None
        trials = 0
        waiting = [edits] if edits else []
        while waiting and trials < _MOST_TRIALS:
            part = waiting.pop()
            trials += 1
            try:
                candidate = _edited(self._best, _all_of([*kept, *part]))
                found = self._difference(candidate, step.same_speed) or 0.0
            except _StepError as error:
                failed, found = error, float("inf")
            if found <= self.reached + step.tolerance:
                kept += part
            elif len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
        return kept, failed

    def ask(self, step: Step, question: Callable[[Record], Result]) -> Result | None:
        """What a function says of the model; None, and a note, where it fails."""
        try:
            return _guarded(question, self._best.model)
        except _StepError as error:
            self._pass_over(step, error)
            return None

    def difference(self, edit: Callable[[Record], Any]) -> float:
        """How far an edit would move the outputs, in all; 0.0 where nothing is run."""
        try:
            return self._difference(_edited(self._best, edit), True) or 0.0
        except _StepError:
            return float("inf")

    def _pass_over(self, step: Step, error: _StepError) -> bool:
        """Note why a step is not taken; False."""
        self.steps.append(ShrinkStep(name=step.name, note=str(error)))
        if error.is_fault:
            self.failures.append(f"{step.name!r}: {error}")
        return False

    def _judge(self, step: Step, candidate: _Candidate) -> bool:
        """Take a candidate, or note why not; whether it was taken."""
        raw = len(self.content) - len(candidate.content)
        compressed = self._gzip(self._best) - self._gzip(candidate)
        if not step.wins(raw, compressed):
            return self._pass_over(step, _StepError(_NOT_SMALLER))
        try:
            difference = self._difference(candidate, step.same_speed)
        except _StepError as error:
            return self._pass_over(step, error)
        if (difference or 0.0) > self.reached + step.tolerance:
            return self._pass_over(step, _StepError("would change the outputs"))
        self.steps.append(
            ShrinkStep(
                name=step.name,
                raw=raw,
                gzip=compressed,
                difference=difference,
                note=candidate.note or step.note,
            )
        )
        self._best, self.reached = candidate, difference or 0.0
        return True

    def _difference(self, candidate: _Candidate, same_speed: bool) -> float | None:
        """How far the outputs are from the original's; None where nothing is run."""
        if self.trial is None:
            return None
        order = candidate.order
        key = (hashlib.sha256(candidate.content).digest(), str(order), same_speed)
        if key not in self._differences:
            self._differences[key] = _guarded(
                self.trial.difference, candidate.content, order, same_speed=same_speed
            )
        return self._differences[key]

    def _gzip(self, candidate: _Candidate) -> int:
        return self._sizes.of(split_file(candidate.content, candidate.model))

    def _compress(self, candidates: Sequence[_Candidate]) -> None:
        """Find out sizes after gzip, as many at once as there are processors."""
        parts = [split_file(item.content, item.model) for item in candidates]
        self._sizes.find(sum(parts, []))


def _edited(base: _Candidate, edit: Callable[[Record], Any]) -> _Candidate:
    """A candidate after one more edit, or a _StepError."""
    return _guarded(_with_edit, base, edit)


def _with_edit(base: _Candidate, edit: Callable[[Record], Any]) -> _Candidate:
    model = base.model.copy()
    result = edit(model)
    shared = model.copy()
    share_buffers(shared)
    return _Candidate(
        model=model,
        content=write_records(shared),
        order=result if isinstance(result, list) else base.order,
        note=result if isinstance(result, str) else "",
    )


def _guarded(
    function: Callable[..., Result], *arguments: Any, **options: Any
) -> Result:
    """Call a function; whatever it raises is a _StepError.

    What no malformed file explains is a fault of the function. The file loses nothing
    by it: the step is left out, and the note names it.
    """
    try:
        return function(*arguments, **options)
    except _MALFORMED as error:
        raise _StepError(_NOT_UNDERSTOOD) from error
    except Exception as error:
        note = f"left out: it failed with {type(error).__name__}"
        raise _StepError(note, is_fault=True) from error


def _all_of(edits: Sequence[Edit]) -> Edit:
    def edit(model: Record) -> None:
        for change in edits:
            change(model)

    return edit
