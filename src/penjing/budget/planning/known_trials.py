"""What is known of a search: its trials, and the file of the model as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from penjing.budget.planning.space import FILES, Candidate
from penjing.budget.trial import FINISHED, TrialOutcome


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A candidate and what came of it; None while it runs.

    `phase` is the part of the plan that asked for it, or "sampled".
    """

    number: int
    candidate: Candidate
    phase: str
    outcome: TrialOutcome | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.number:04d}"

    @property
    def is_finished(self) -> bool:
        """Whether there is a file with a score."""
        return self.outcome is not None and self.outcome.status == FINISHED

    @property
    def costs(self) -> Mapping[str, float]:
        """Of its file; none where it is not finished."""
        return {} if self.outcome is None else self.outcome.costs

    @property
    def metrics(self) -> Mapping[str, float]:
        """Of its file, on validation data; none where it is not finished."""
        return {} if self.outcome is None else self.outcome.metrics


def plain_files(trials: Sequence[Trial]) -> list[Trial]:
    """The finished trials for which only the file was made, of the model as it is."""
    return [t for t in trials if t.candidate.family == FILES and t.is_finished]


UNCOMPRESSED = Candidate(family=FILES, mode="float32")
"""The file of the model as it is."""


def reference_of(trials: Sequence[Trial]) -> Trial | None:
    """The file of the model as it is, once there is one."""
    found = (t for t in trials if t.candidate == UNCOMPRESSED and t.is_finished)
    return next(found, None)
