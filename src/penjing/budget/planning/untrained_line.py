"""How far weights can fall at once, before anything is trained.

It takes seconds, so there is a small file from the first minute on, and trainings begin
where it leads. What it can lose is counted from the model as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from penjing.budget.bounds.goal import Goal
from penjing.budget.planning.known_trials import Trial, reference_of
from penjing.budget.planning.line_search import next_share
from penjing.budget.planning.space import MOST_KEPT, ONE_SHOT, Candidate, Ground
from penjing.budget.trial import FAILED

_START, _MOST_TRIALS, _PRECISION = 0.3, 3, 1.6
# Where nothing is trained afterwards the edge is worth more trials,
_MOST_ALONE, _PRECISE = 5, 1.25
# and single settings: rounded more where as much stays, or less where more falls. Where
# no weight could fall, they are rounded alone.
_CHANGES: tuple[tuple[dict[str, Any], float], ...] = (
    ({"levels": 7}, 1.0),
    ({"bits": 3.0}, 1.0),
    ({"levels": 31}, 0.8),
)
_ROUNDED_ALONE: tuple[tuple[dict[str, Any], float], ...] = (
    ({"levels": 15}, 1.0),
    ({"levels": 31}, 1.0),
)
# Of what may be lost: the edge itself is missed by half of the files that aim at it.
_USED = 0.9


def next_untrained(
    trials: Sequence[Trial], ground: Ground, goal: Goal, mode: str
) -> Candidate | None:
    """The next candidate whose weights fall at once; None where their edge is found."""
    mine = [t for t in _untrained(trials) if t.phase == "one-shot"]
    failed = any(t.outcome and t.outcome.status == FAILED for t in mine)
    most = _MOST_TRIALS if ground.trains else _MOST_ALONE
    if not ground.spares or failed or len(mine) >= most:
        return None
    goal = _from_the_model(goal, trials, ground)
    keep = next_share(
        {t.candidate.keep: _position(t, goal) for t in mine if t.outcome},
        [t.candidate.keep for t in mine if t.outcome is None],
        start=max(_START, ground.least_kept),
        least=ground.least_kept,
        most=MOST_KEPT,
        precision=_PRECISION if ground.trains else _PRECISE,
    )
    if keep is None:
        return None
    return Candidate(family=ONE_SHOT, keep=_rounded(keep), mode=mode)


def vary_untrained(
    trials: Sequence[Trial], ground: Ground, goal: Goal, mode: str
) -> Candidate | None:
    """What the line found with one setting changed; None where each was tried."""
    line = [t for t in _untrained(trials) if t.phase == "one-shot"]
    if not line or not ground.spares:
        return None
    others = [t for t in trials if t.candidate.family != ONE_SHOT]
    borne = borne_untrained([*others, *line], ground, goal)
    start = borne.candidate if borne else Candidate(family=ONE_SHOT, mode=mode)
    changed = [
        dataclasses.replace(start, keep=_rounded(share * start.keep), **settings)
        for settings, share in (_CHANGES if borne else _ROUNDED_ALONE)
    ]
    tried = {trial.candidate for trial in trials}
    return next((candidate for candidate in changed if candidate not in tried), None)


def borne_untrained(
    trials: Sequence[Trial], ground: Ground, goal: Goal
) -> Trial | None:
    """The trial in which most weights fell at once within the bound; None: in none."""
    goal = _from_the_model(goal, trials, ground)
    borne = [t for t in _untrained(trials) if _position(t, goal) <= 0]
    return min(borne, key=lambda t: t.candidate.keep, default=None)


def _untrained(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.candidate.family == ONE_SHOT]


def _rounded(share: float) -> float:
    return float(f"{share:.3g}")


def _from_the_model(goal: Goal, trials: Sequence[Trial], ground: Ground) -> Goal:
    """The goal before the dense control was known: nothing here is trained on.

    Where trainings follow, which cost less, a bounded score alone says what falls.
    """
    if ground.trains and goal.bound.drop is not None:
        goal = dataclasses.replace(goal, bounds={})
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
