"""A search's trials: asked for, finished, told to optuna.

Each trial's folder holds what was asked for, from before it begins, and what came of
it. So the folders are the search: whoever reads them goes on where it stopped. Optuna
samples candidates from them (a tree of Parzen estimators with constraints, Bergstra et
al., 2011), with chance that comes from the search's seed and the number of the trial;
what is finished is kept in a SQLite study too, for optuna's own tools.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penjing.budget.bounds.goal import Goal
from penjing.budget.planning.known_trials import Trial
from penjing.budget.planning.space import (
    LEVELS,
    MOST_KEPT,
    PENALTIES,
    Candidate,
    Ground,
)
from penjing.budget.trial import OUTCOME, TrialOutcome, known_outcome
from penjing.files import DAMAGE, write_text

ORDER, DATABASE = "order.json", "study.db"
SAMPLED = "sampled"
_MOST_MISSED = 1e6  # databases hold no infinity
_NAME = "penjing"


class Study:
    """The trials of one search, in the order in which they were asked for.

    Args:
        folder: Where the trials' folders and the database lie.
        ground: What all recipes have in common.
        seed: Of the sampling.
    """

    def __init__(self, folder: Path, ground: Ground, seed: int) -> None:
        self.folder, self._ground, self._seed = folder, ground, seed
        self.trials: list[Trial] = []
        while (trial := self._known(len(self.trials))) is not None:
            self.trials.append(trial)

    def _known(self, number: int) -> Trial | None:
        folder = self.folder / f"{number:04d}"
        try:
            order = json.loads((folder / ORDER).read_text("utf-8"))
            candidate = Candidate.from_dict(order["candidate"])
            phase = str(order["phase"])
        except DAMAGE:
            return None
        return Trial(
            number=number,
            candidate=candidate,
            phase=phase,
            outcome=known_outcome(folder),
        )

    def add(self, candidate: Candidate, phase: str) -> Trial:
        """Take in a candidate, before it is tried."""
        trial = Trial(number=len(self.trials), candidate=candidate, phase=phase)
        folder = self.folder / trial.name
        folder.mkdir(parents=True, exist_ok=True)
        order = {"candidate": candidate.to_dict(), "phase": phase}
        # Of a candidate whose order was damaged.
        (folder / OUTCOME).unlink(missing_ok=True)
        write_text(folder / ORDER, json.dumps(order, indent=1))
        self.trials.append(trial)
        return trial

    def finish(self, outcome: TrialOutcome) -> Trial:
        """Take in what came of a trial."""
        number = int(outcome.name)
        trial = dataclasses.replace(self.trials[number], outcome=outcome)
        self.trials[number] = trial
        return trial

    def sample(
        self, goal: Goal, families: Sequence[str], modes: Sequence[str]
    ) -> Candidate:
        """Choose a candidate from what is known of those before."""
        with _quiet() as optuna:
            space = _distributions(optuna, self._ground, families, modes)
            sampler = optuna.samplers.TPESampler(
                seed=self._seed * 100_003 + len(self.trials),
                n_startup_trials=0,
                multivariate=True,
                constant_liar=True,
            )
            study = optuna.create_study(sampler=sampler)
            for trial in self.trials:
                mine = (
                    trial.candidate.family in families and trial.candidate.mode in modes
                )
                if mine and trial.candidate.effort == 1:
                    study.add_trial(self._frozen(optuna, trial, goal, space))
            asked = study.ask(space)
        chosen = dict(asked.params)
        most = self._ground.most_kept(chosen["family"])
        chosen["keep"] = min(chosen["keep"], most)
        for name in ("keep", "rate"):
            chosen[name] = float(f"{chosen[name]:.3g}")
        return Candidate(**chosen)

    def _frozen(
        self, optuna: Any, trial: Trial, goal: Goal, space: Mapping[str, Any]
    ) -> Any:
        """A trial as optuna has it; what the bounds are missed by is its constraint."""
        distributions = dict(space) if trial.candidate.is_compressed else {}
        state = optuna.trial.TrialState
        outcome = trial.outcome
        value, missed, lost = None, None, {}
        if outcome is None:
            kind = state.RUNNING
        elif trial.is_finished:
            kind = state.COMPLETE
            score = outcome.metrics[goal.bound.metric]
            rank = goal.rank(score, outcome.costs)
            is_number = math.isfinite(goal.bound.lost(score))
            missed = min(rank[1] if is_number else _MOST_MISSED, _MOST_MISSED)
            missed = missed if rank[0] else 0.0
            value = (
                outcome.costs[goal.objective]
                if goal.bound.drop
                else goal.bound.lost(score)
            )
        elif goal.bound.metric in outcome.metrics:  # stopped, at what it scored then
            kind = state.PRUNED
            score = outcome.metrics[goal.bound.metric]
            missed = min(goal.bound.used(score), _MOST_MISSED)
            lost = {outcome.steps: min(goal.bound.lost(score), _MOST_MISSED)}
        else:
            kind = state.FAIL
        return optuna.trial.create_trial(
            state=kind,
            value=value,
            intermediate_values=lost,
            params={name: getattr(trial.candidate, name) for name in distributions},
            distributions=distributions,
            user_attrs={"phase": trial.phase, "trial": trial.name},
            constraints=None if missed is None else {"missed": missed},
        )

    def write_database(self, goal: Goal) -> None:
        """Write the finished trials as an optuna study, for optuna's own tools."""
        path = self.folder / DATABASE
        path.unlink(missing_ok=True)
        with _quiet() as optuna:
            ground = self._ground
            space = _distributions(optuna, ground, ground.families, ground.modes)
            # A path in the address itself would end at its first question mark.
            opened = {"creator": functools.partial(sqlite3.connect, path)}
            storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=opened)
            study = optuna.create_study(storage=storage, study_name=_NAME)
            for trial in self.trials:
                # The control is no file to deploy, and has not all costs.
                if trial.outcome is not None and trial.candidate.is_deployed:
                    study.add_trial(self._frozen(optuna, trial, goal, space))
            storage.engine.dispose()


def _distributions(
    optuna: Any, ground: Ground, families: Sequence[str], modes: Sequence[str]
) -> dict[str, Any]:
    ranges = optuna.distributions
    return {
        "family": ranges.CategoricalDistribution(list(families)),
        "keep": ranges.FloatDistribution(ground.least_kept, MOST_KEPT, log=True),
        "levels": ranges.CategoricalDistribution(list(LEVELS)),
        "rate": ranges.FloatDistribution(0.3, 10.0, log=True),
        "l1": ranges.CategoricalDistribution(list(PENALTIES)),
        "mode": ranges.CategoricalDistribution(list(modes)),
    }


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna without its log and its notes on what is experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)
