"""How far weights can fall at once, before anything is trained.

It takes seconds, so there is a small file from the first minute on, and trainings begin
where it leads. What it can lose is counted from the model as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from penjing.budget.bounds.goal import Goal
from penjing.budget.planning.known_trials import Trial, reference_of
from penjing.budget.planning.line_search import next_share
from penjing.budget.planning.space import MOST_KEPT, ONE_SHOT, Candidate, Ground
from penjing.budget.trial import FAILED

_START, _MOST_TRIALS, _PRECISION = 0.3, 3, 1.6
# Of what may be lost: the edge itself is missed by half of the files that aim at it.
_USED = 0.9


def next_untrained(
    trials: Sequence[Trial], ground: Ground, goal: Goal, mode: str
) -> Candidate | None:
    """The next candidate whose weights fall at once; None where their edge is found."""
    mine = _untrained(trials)
    failed = any(t.outcome and t.outcome.status == FAILED for t in mine)
    if not ground.spares or failed or len(mine) >= _MOST_TRIALS:
        return None
    goal = _from_the_model(goal, trials)
    keep = next_share(
        {t.candidate.keep: _position(t, goal) for t in mine if t.outcome},
        [t.candidate.keep for t in mine if t.outcome is None],
        start=max(_START, ground.least_kept),
        least=ground.least_kept,
        most=MOST_KEPT,
        precision=_PRECISION,
    )
    if keep is None:
        return None
    return Candidate(family=ONE_SHOT, keep=float(f"{keep:.3g}"), mode=mode)


def borne_untrained(trials: Sequence[Trial], goal: Goal) -> Trial | None:
    """The trial in which most weights fell at once within the bound; None: in none."""
    goal = _from_the_model(goal, trials)
    borne = [t for t in _untrained(trials) if _position(t, goal) <= 0]
    return min(borne, key=lambda t: t.candidate.keep, default=None)


def _untrained(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.candidate.family == ONE_SHOT]


def _from_the_model(goal: Goal, trials: Sequence[Trial]) -> Goal:
    """The goal before the dense control was known: nothing here is trained on."""
    reference = reference_of(trials)
    if reference is None:
        return goal
    score = reference.metrics[goal.bound.metric]
    return dataclasses.replace(
        goal, bound=dataclasses.replace(goal.bound, reference=score)
    )


def _position(trial: Trial, goal: Goal) -> float:
    if not trial.is_finished:
        return math.inf
    score = trial.metrics[goal.bound.metric]
    return goal.position(score, trial.costs, _USED)
