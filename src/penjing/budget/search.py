"""The search itself: candidates out, outcomes in, until plan, trials or time end."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from penjing.budget.bounds.bound import better_of
from penjing.budget.bounds.goal import Goal
from penjing.budget.planning.known_trials import UNCOMPRESSED, Trial
from penjing.budget.planning.plan import Plan
from penjing.budget.planning.space import CONTROL, DENSE, FILES, Candidate, Ground
from penjing.budget.study import SAMPLED, Study
from penjing.budget.told_results import tell_trial
from penjing.budget.trial import FAILED, TrialOrder, TrialOutcome
from penjing.budget.workplaces.workplace import Workers
from penjing.engine.log_metrics import Log
from penjing.errors import CompressionError
from penjing.files import DAMAGE, write_text
from penjing.measurement.metric_direction import LOWER
from penjing.progress import Listener, Progress

# Sampled trials without a better file after which a search ends by itself.
PATIENCE = 8
# A file that is better by less is no better.
_GAIN = 0.02
# A trained score that is this many drops below the bound when all methods have begun to
# act in full is hopeless: the rest of the training wins back less.
_HOPELESS = 20.0
# Of the time, what goes to files for which nothing is trained.
_UNTRAINED_SHARE = 0.25
_CLOCK = "clock.json"


class Clock:
    """How long a search has taken, in all the processes that it was begun in."""

    def __init__(self, folder: Path, seconds: float | None) -> None:
        self._path, self.seconds = folder / _CLOCK, seconds
        self._before, self._start = self._known(), time.monotonic()

    def _known(self) -> float:
        try:
            return float(json.loads(self._path.read_text("utf-8")))
        except DAMAGE:
            return 0.0

    @property
    def spent(self) -> float:
        """Seconds since the search was begun, times when it was dead left out."""
        return self._before + time.monotonic() - self._start

    def keep(self) -> None:
        """Write down what was spent."""
        write_text(self._path, json.dumps(round(self.spent, 2)))

    def has(self, seconds: float) -> bool:
        """Whether that much is left."""
        return self.seconds is None or self.spent + seconds <= self.seconds


@dataclasses.dataclass(kw_only=True, eq=False)
class Search:
    """One search.

    Args:
        study: The trials, those of an earlier process too.
        ground: What all recipes have in common.
        goal: What is looked for; the reference of its bound rises with the control.
        workers: What runs trials.
        clock: The time.
        trainings: Trainings at most; None: as many as time allows.
        pace: Seconds that a batch takes, before any trial is known.
        steps_per_epoch: Batches in an epoch.
        seed: Of every trial.
        imports: Modules of the user's classes.
        progress: Is told what came of each trial.
        proof: Says why a file computes something else in its runtime; nothing where it
            does not.
        log: Is told the numbers of each trial.
    """

    study: Study
    ground: Ground
    goal: Goal
    workers: Workers
    clock: Clock
    trainings: int | None
    pace: float
    steps_per_epoch: int
    seed: int
    imports: tuple[str, ...]
    progress: Listener
    proof: Callable[[Trial], str] | None = None
    log: Log | None = None

    def run(self) -> None:
        """Try candidates until the plan is through and nothing better is sampled."""
        self._running: set[str] = set()
        for unfinished in [t for t in self.study.trials if t.outcome is None]:
            self._submit(unfinished)  # a kill left it so
        for known in list(self.study.trials):
            self._check_untrained(known)
        self._refer_to_control()
        try:
            self._try_candidates()
        finally:
            self.clock.keep()

    def _try_candidates(self) -> None:
        while True:
            while self.workers.free and (trial := self._next()) is not None:
                self._submit(trial)
            if not self._running:
                return
            self._take(self.workers.next_outcome())

    def _submit(self, trial: Trial) -> None:
        self._running.add(trial.name)
        self.workers.submit(self.order(trial))

    def order(self, trial: Trial) -> TrialOrder:
        """What a worker is told of a trial."""
        recipe = self.ground.recipe(trial.candidate, f"search-{trial.name}")
        return TrialOrder(
            name=trial.name,
            recipe=recipe.to_dict(),
            seed=self.seed,
            costs=self._costs(trial.candidate),
            imports=self.imports,
            lowest=self._lowest(trial.candidate),
        )

    def _costs(self, candidate: Candidate) -> tuple[str, ...]:
        """What is measured: of the control nothing that its runtime would refuse."""
        return ("gzip",) if candidate.family == CONTROL else self.goal.costs

    def _lowest(self, candidate: Candidate) -> float | None:
        """Below it training is stopped; no control is, and nothing without a bound."""
        bound = self.goal.bound
        # Of the model as it is, left out or not: the control may not be known yet.
        scores = [
            t.metrics[bound.metric]
            for t in self.study.trials
            if t.candidate == UNCOMPRESSED and bound.metric in t.metrics
        ]
        if bound.drop is None or not candidate.is_compressed or not scores:
            return None
        bound = dataclasses.replace(bound, reference=scores[0])
        sign = 1 if bound.direction == LOWER else -1
        return bound.reference + sign * bound.clearly(_HOPELESS)

    def _score(self, trial: Trial) -> float:
        return trial.metrics[self.goal.bound.metric]

    def _take(self, outcome: TrialOutcome) -> None:
        self._running.discard(outcome.name)
        trial = self.study.finish(outcome)
        self.clock.keep()
        tell_trial(outcome, self.log)
        self._refer_to_control()
        self.progress(Progress(stage=self._line(trial), notice=True))
        self._check_untrained(trial)

    def _check_untrained(self, trial: Trial) -> None:
        """Look at a file of the model as it is, before others are trained for it."""
        if trial.candidate.family != FILES or trial.outcome is None:
            return
        if trial.candidate.mode != "float32":
            self._prove(trial)
        elif not trial.is_finished:
            raise CompressionError(
                "The model as it is cannot be had as a file, so nothing can be "
                f"compared with it: {trial.outcome.reason} What failed stays known; "
                "once its cause is gone, --restart begins anew."
            )

    def _prove(self, trial: Trial) -> None:
        """Take a file out that is wrong in its runtime, and so its mode."""
        if self.proof is None or not trial.is_finished:
            return
        if reason := self.proof(trial):
            self.leave_out(trial, reason)

    def leave_out(self, trial: Trial, reason: str) -> None:
        """Count a trial as failed, and say why."""
        if trial.outcome is not None:
            self.study.finish(
                dataclasses.replace(trial.outcome, status=FAILED, reason=reason)
            )
        text = f"{trial.name} is left out: {reason}"
        self.progress(Progress(stage=text, notice=True))

    def _refer_to_control(self) -> None:
        """Measure drops against the better of the model and the dense control."""
        kinds = (FILES, CONTROL)
        scores = [
            self._score(t)
            for t in self.study.trials
            if t.is_finished
            and t.candidate.family in kinds
            and t.candidate.mode == "float32"
        ]
        if scores:
            bound = dataclasses.replace(self.goal.bound, reference=scores[0])
            self.goal = dataclasses.replace(self.goal, bound=better_of(bound, scores))

    def _next(self) -> Trial | None:
        """The next trial, written down; None: wait, or the search is through."""
        plan = Plan(
            ground=self.ground,
            goal=self.goal,
            trainings=self._affordable(),
            prunes_untrained=self._has_time_for_untrained(),
        )
        planned = plan.next(self.study.trials)
        if planned and planned[1] == DENSE and not self._may_train(planned[0]):
            plan = dataclasses.replace(plan, keeps_all=False)
            planned = plan.next(self.study.trials)
        found = planned or self._sampled(plan)
        if found is None:
            return None
        candidate, phase = found
        if candidate.is_trained and not self._may_train(candidate):
            return None
        return self.study.add(candidate, phase)

    def _sampled(self, plan: Plan) -> tuple[Candidate, str] | None:
        if not plan.can_train(self.study.trials):
            return None
        families = plan.families(self.study.trials)
        if not families or self._is_exhausted():
            return None
        modes = plan.written_modes(self.study.trials)
        return self.study.sample(self.goal, families, modes), SAMPLED

    def _is_exhausted(self) -> bool:
        """Whether many sampled trials in a row were no better than the best before."""
        known = [t for t in self.study.trials if t.outcome is not None]
        sampled = [t for t in known if t.phase == SAMPLED]
        last = sampled[-PATIENCE:]
        if len(last) < PATIENCE:
            return False
        before = self.best([t for t in known if t not in last])
        after = self.best(known)
        if before is None or after is None or before is after:
            return True
        old, new = self._rank(before), self._rank(after)
        return old[0] == new[0] and new[1] > old[1] * (1 - _GAIN)

    def _may_train(self, candidate: Candidate) -> bool:
        done = self.trainings is not None and self._tried() >= self.trainings
        if candidate.is_deployed and done:
            return False
        return self.clock.has(self._expected(candidate))

    def _tried(self) -> int:
        """Trainings but those of the control."""
        known = [t.candidate for t in self.study.trials if t.candidate.is_trained]
        return sum(candidate.is_deployed for candidate in known)

    def _has_time_for_untrained(self) -> bool:
        """Whether one more such file fits into its part of the time.

        Where no training would fit anyway, all of it is theirs.
        """
        seconds = self.clock.seconds
        if seconds is None:
            return True
        known = [t for t in self.study.trials if not t.candidate.is_trained]
        each = max((t.outcome.seconds for t in known if t.outcome), default=0.0)
        first = Candidate(family=self.ground.families[0])
        trainings = self._expected(Candidate(family=CONTROL)) + self._expected(first)
        trains = self.ground.trains and self.clock.has(trainings)
        share = _UNTRAINED_SHARE if trains else 1.0
        return self.clock.spent + each <= share * seconds

    def _affordable(self) -> float:
        """How many trainings the search can have in all, by their number or by time."""
        if self.clock.seconds is None:
            return math.inf if self.trainings is None else self.trainings
        full = self._expected(Candidate(family=self.ground.families[0]))
        left = max(self.clock.seconds - self.clock.spent, 0.0) / max(full, 1e-9)
        by_time = self._tried() + left
        return by_time if self.trainings is None else min(by_time, self.trainings)

    def _expected(self, candidate: Candidate) -> float:
        """Seconds that a training will take: as the slowest before it, by epochs."""
        epochs = self.ground.passes_of(candidate)
        known = [
            t.outcome.seconds / self.ground.passes_of(t.candidate)
            for t in self.study.trials
            if t.is_finished and t.candidate.is_trained and t.outcome is not None
        ]
        each = max(known, default=1.5 * self.pace * self.steps_per_epoch)
        return each * epochs

    def _rank(self, trial: Trial) -> tuple[float, ...]:
        return self.goal.rank(self._score(trial), trial.costs)

    def best(self, trials: Sequence[Trial] | None = None) -> Trial | None:
        """The file to deploy: the best one by the goal; the control is none."""
        trials = self.study.trials if trials is None else trials
        return min(self._files(trials), key=self._rank, default=None)

    def front(self) -> list[Trial]:
        """The files that no other beats, the cheapest one first."""
        files = self._files(self.study.trials)
        rows = [(t.name, self._score(t), t.costs) for t in files]
        by_name = {t.name: t for t in files}
        return [by_name[name] for name in self.goal.front(rows)]

    def _files(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those with a file to deploy."""
        return [t for t in trials if t.is_finished and t.candidate.is_deployed]

    def _line(self, trial: Trial) -> str:
        """What came of a trial, for people."""
        what = f"{trial.name}  {trial.candidate.text()}"
        if trial.is_finished:
            return f"{what}: {self._found(trial)}"
        if trial.outcome is not None and trial.outcome.status == FAILED:
            return f"{what}: not possible: {trial.outcome.reason}"
        return f"{what}: stopped early, too far from the bound"

    def _found(self, trial: Trial) -> str:
        score, objective = self._score(trial), self.goal.objective
        if trial.candidate.family == CONTROL:
            return f"{self.goal.bound.metric} {score:.4f}"
        cost = trial.costs[objective]
        amount = f"{1000 * cost:.3g} ms" if objective == "latency" else f"{cost:,.0f} B"
        met = "" if self.goal.is_met(score, trial.costs) else ", not within the bounds"
        return f"{amount} {objective}, {self.goal.bound.metric} {score:.4f}{met}"
