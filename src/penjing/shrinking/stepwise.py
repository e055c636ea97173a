"""One step after the other, each proven on the runtime before it is taken."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable, Sequence
from typing import Any

from penjing.runtime.trials import Trial
from penjing.shrinking.shrink_report import ShrinkStep
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.records import Edit, Record
from penjing.tflite.writing import write_records

_MOST_TRIALS = 40  # of single edits, where they do not work all together
_NOT_SMALLER = "no bytes to win"
_NOT_UNDERSTOOD = "the file is built in an unusual way"
# What malformed parts raise. The runtime checks only the parts that it runs.
_MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True)
class Step:
    """A step to try.

    Attributes:
        name: Its name in the report.
        tolerance: Largest difference that it may add to the outputs.
        note: For the report, where it is taken.
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


class Stepwise:
    """The smallest file so far, and the steps that led to it.

    Args:
        content: The original file.
        model: Its records.
        trial: What changed files are compared with; None: they are not run.

    Attributes:
        content: The smallest file so far.
        trial: The trial.
        steps: The steps so far, those that were not taken too.
    """

    def __init__(self, content: bytes, model: Record, trial: Trial | None) -> None:
        self.content = content
        self.trial = trial
        self.steps: list[ShrinkStep] = []
        self._model = model
        self._gzip = gzip_bytes(content)
        self._order: list[int] | None = None

    @property
    def reached(self) -> float:
        """Difference of outputs after the steps that were taken."""
        taken = [s.difference for s in self.steps if s.difference is not None]
        return taken[-1] if taken else 0.0

    def take(self, step: Step, edit: Callable[[Record], Any]) -> bool:
        """Take a step if the file gets smaller and its outputs stay within bounds.

        Args:
            step: What is known of it.
            edit: Changes a model in place. A list that it returns says for each output
                its place in the original; a text is the note for the report.

        Returns:
            Whether it was taken.
        """
        model = self._model.copy()
        try:
            result = edit(model)
        except _MALFORMED:
            self.steps.append(ShrinkStep(name=step.name, note=_NOT_UNDERSTOOD))
            return False
        order = result if isinstance(result, list) else self._order
        content = _written(model)
        compressed = gzip_bytes(content)
        won = len(self.content) - len(content), self._gzip - compressed
        if not step.wins(*won):
            self.steps.append(ShrinkStep(name=step.name, note=_NOT_SMALLER))
            return False
        difference = None
        if self.trial is not None:
            difference = self.trial.difference(
                content, order, same_speed=step.same_speed
            )
            if difference > self.reached + step.tolerance:
                note = "would change the outputs"
                self.steps.append(ShrinkStep(name=step.name, note=note))
                return False
        self.steps.append(
            ShrinkStep(
                name=step.name,
                raw=won[0],
                gzip=won[1],
                difference=difference,
                note=result if isinstance(result, str) else step.note,
            )
        )
        self.content, self._gzip = content, compressed
        self._model, self._order = model, order
        return True

    def take_first(self, step: Step, edits: Sequence[Callable[[Record], Any]]) -> None:
        """Take the first one of several edits that can be taken.

        Args:
            step: What is known of them.
            edits: The edits, each of which changes a model in place, and wins no more
                than the one before.
        """
        before = len(self.steps)
        for edit in edits:
            del self.steps[before:]
            if self.take(step, edit) or self.steps[-1].note == _NOT_SMALLER:
                return

    def take_best(self, step: Step, edits: Sequence[Edit]) -> None:
        """Take the one of several edits after which gzip finds the most.

        Args:
            step: What is known of them.
            edits: The edits, each of which changes a model in place.
        """

        def size(edit: Edit) -> float:
            model = self._model.copy()
            try:
                edit(model)
            except _MALFORMED:
                return float("inf")
            return gzip_bytes(_written(model))

        self.take(step, min(edits, key=size))

    def take_each(self, step: Step, find: Callable[[Record], Sequence[Edit]]) -> None:
        """Take as many of some edits as work together.

        Args:
            step: What is known of them.
            find: Gives the edits for a model.
        """
        try:
            edits = list(find(self._model))
        except _MALFORMED:
            self.steps.append(ShrinkStep(name=step.name, note=_NOT_UNDERSTOOD))
            return
        kept: list[Edit] = []
        trials = 0
        waiting = [edits] if edits else []
        while waiting and trials < _MOST_TRIALS:
            part = waiting.pop()
            trials += 1
            found = self.difference(_all_of([*kept, *part]), same_speed=step.same_speed)
            if found <= self.reached + step.tolerance:
                kept += part
            elif len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
        note = f"{len(kept)} of {len(edits)} tensors" if edits else step.note
        self.take(dataclasses.replace(step, note=note), _all_of(kept))

    def difference(
        self, edit: Callable[[Record], Any], *, same_speed: bool = True
    ) -> float:
        """How far an edit would move the outputs, in all; 0.0 where nothing is run."""
        if self.trial is None:
            return 0.0
        model = self._model.copy()
        try:
            edit(model)
        except _MALFORMED:
            return float("inf")
        content = _written(model)
        return self.trial.difference(content, self._order, same_speed=same_speed)


def gzip_bytes(content: bytes) -> int:
    """Size of a file after gzip level 9, without name and date."""
    return len(gzip.compress(content, 9, mtime=0))


def _all_of(edits: Sequence[Edit]) -> Edit:
    def edit(model: Record) -> None:
        for change in edits:
            change(model)

    return edit


def _written(model: Record) -> bytes:
    model = model.copy()
    share_buffers(model)
    return write_records(model)
