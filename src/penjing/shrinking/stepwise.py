"""One step after the other, each proven on the runtime before it is taken."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

from penjing.files import gzip_bytes
from penjing.runtime.trials import Trial
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
        reached: Difference of outputs after those that were.
    """

    def __init__(self, content: bytes, model: Record, trial: Trial | None) -> None:
        self.trial = trial
        self.steps: list[ShrinkStep] = []
        self.reached = 0.0
        self._original = content
        self._best = _Candidate(model=model, content=content)
        self._sizes: dict[bytes, int] = {}
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
            gzip_before=self._gzip(self._original),
            gzip_after=self._gzip(self.content),
            steps=tuple(self.steps),
        )

    def take(self, step: Step, edit: Callable[[Record], Any]) -> bool:
        """Take a step if the file gets smaller and its outputs stay within bounds."""
        return self._judge(step, _edited(self._best, edit))

    def take_all(self, steps: Sequence[tuple[Step, Callable[[Record], Any]]]) -> None:
        """Take several steps, one after the other, as `take` does.

        Compressing takes most of the time, so it is done at once for what comes of them
        if each is taken.
        """
        ahead = [self._best]
        for _, edit in steps[: _MOST_BYTES_AHEAD // len(self.content)]:
            candidate = _edited(ahead[-1], edit)
            if candidate is None:
                break
            ahead.append(candidate)
        self._compress([candidate.content for candidate in ahead])
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
        found = [_edited(self._best, edit) for edit in edits]
        known = [candidate for candidate in found if candidate is not None]
        self._compress([candidate.content for candidate in known])
        best = min(known, key=lambda item: self._gzip(item.content), default=None)
        self._judge(step, best)

    def take_each(self, step: Step, find: Callable[[Record], Sequence[Edit]]) -> None:
        """Take as many of the edits that `find` gives for a model as work together."""
        try:
            edits = list(find(self._best.model))
        except _MALFORMED:
            self._judge(step, None)
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
        candidate = _edited(self._best, edit)
        if candidate is None:
            return float("inf")
        return self._difference(candidate, same_speed) or 0.0

    def _judge(self, step: Step, candidate: _Candidate | None) -> bool:
        """Take a candidate, or note why not; whether it was taken."""
        if candidate is None:
            self.steps.append(ShrinkStep(name=step.name, note=_NOT_UNDERSTOOD))
            return False
        raw = len(self.content) - len(candidate.content)
        compressed = self._gzip(self.content) - self._gzip(candidate.content)
        if not step.wins(raw, compressed):
            self.steps.append(ShrinkStep(name=step.name, note=_NOT_SMALLER))
            return False
        difference = self._difference(candidate, step.same_speed)
        if (difference or 0.0) > self.reached + step.tolerance:
            note = "would change the outputs"
            self.steps.append(ShrinkStep(name=step.name, note=note))
            return False
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
        key = (_digest(candidate.content), str(order), same_speed)
        if key not in self._differences:
            self._differences[key] = self.trial.difference(
                candidate.content, order, same_speed=same_speed
            )
        return self._differences[key]

    def _gzip(self, content: bytes) -> int:
        self._compress([content])
        return self._sizes[_digest(content)]

    def _compress(self, contents: Sequence[bytes]) -> None:
        """Find out sizes after gzip, as many at once as there are processors."""
        new = {_digest(content): content for content in contents}
        new = {digest: c for digest, c in new.items() if digest not in self._sizes}
        with futures.ThreadPoolExecutor() as pool:
            found = pool.map(gzip_bytes, new.values())
        self._sizes |= zip(new, found, strict=True)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _edited(base: _Candidate, edit: Callable[[Record], Any]) -> _Candidate | None:
    """A candidate after one more edit; None where the edit does not fit the model."""
    model = base.model.copy()
    try:
        result = edit(model)
    except _MALFORMED:
        return None
    shared = model.copy()
    share_buffers(shared)
    return _Candidate(
        model=model,
        content=write_records(shared),
        order=result if isinstance(result, list) else base.order,
        note=result if isinstance(result, str) else "",
    )


def _all_of(edits: Sequence[Edit]) -> Edit:
    def edit(model: Record) -> None:
        for change in edits:
            change(model)

    return edit
