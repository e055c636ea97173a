"""Which candidate is tried next, from what is known of those before.

A plan is a function of the trials alone, so a search that was killed goes on as it
would have. Cheap trials come first: files of the model as it is, those whose weights
fall at once, the dense control (which finds out, too, what learning rate the model
bears), short trainings that tell where along a family's line the budget's edge lies,
full ones around it, and what single settings bring to the best of these. What then
remains of the budget is sampled; see `penjing.budget.study`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from penjing.budget.bounds.goal import Goal
from penjing.budget.planning.byte_shares import share_within_bytes
from penjing.budget.planning.known_trials import Trial, plain_files, reference_of
from penjing.budget.planning.line_search import next_share
from penjing.budget.planning.space import (
    CONTROL,
    DENSE,
    FILES,
    Candidate,
    Ground,
)
from penjing.budget.planning.untrained_line import (
    borne_untrained,
    next_untrained,
    vary_untrained,
)
from penjing.budget.trial import FAILED

# Multiples of the model's own learning rate: weights that are cut need a higher one
# than training ended with; less where that harms the dense model.
RATES = (3.0, 1.0, 0.3)
SHORT = 1 / 3
# Of what may be lost: short trials may lose more, full training wins it back.
_USED_SHORT, _USED_FULL = 2.0, 0.9
_MOST_SHORT, _MOST_FULL = 3, 4
# Drops that the control may lose before a rate counts as harmful: on few samples chance
# alone makes one or two of them, and a rate that is too low recovers nothing.
_HARMED = 3.0
_START = {"prune": 0.06, "cut": 0.3, "cut+prune": 0.03}
# Where few trainings can be had the first one had better be within the bound, and one
# family is all; from how many on short ones pay, and the second family.
_SAFE_START = {"prune": 0.3, "cut": 0.6, "cut+prune": 0.25}
_FEW, _ENOUGH_FOR_TWO = 4, 8
# Where weights fell at once within the bound: what training bears of that share. It is
# less than it is likely to bear where the first file had better be within the bound.
_BEARS, _SURELY_BEARS = 0.25, 0.5
_HIGHER = 3.0  # where even short trials with the most that stays lost too much

# Single settings that are tried on the best full trial, in turn.
_CHANGES: tuple[dict[str, Any], ...] = (
    {"levels": 7},
    {"l1": 1e-4},
    {"rate": 5.0},
    {"l1": 1e-5},
)

Phase = Literal["files", "one-shot", "control", "short", "full", "dense", "vary"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The order of a search's trials.

    Args:
        ground: What all recipes have in common.
        goal: What is looked for.
        trainings: How many a search can have in all, about.
        prunes_untrained: Whether there is time for one more file for which nothing is
            trained.
        keeps_all: Whether there is time to train the dense model again for its file.
    """

    ground: Ground
    goal: Goal
    trainings: float = math.inf
    prunes_untrained: bool = True
    keeps_all: bool = True

    def next(self, trials: Sequence[Trial]) -> tuple[Candidate, Phase] | None:
        """Choose the next candidate; None: wait for what runs, or the plan is through.

        It is through where nothing runs.
        """
        tried = {trial.candidate for trial in trials}
        for mode in dict.fromkeys(("float32", *self.ground.modes)):
            candidate = Candidate(family=FILES, mode=mode)
            if candidate not in tried:
                return candidate, "files"
        if reference_of(trials) is None:
            return None
        if self._runs(trials, "files"):
            return None
        if (untrained := self._next_untrained(trials)) is not None:
            return untrained, "one-shot"
        if not self.ground.trains:
            return self._next_varied_untrained(trials)
        if (control := self._next_control(trials)) is not None:
            return control, "control"
        if self._runs(trials, "control") or self._runs(trials, "one-shot"):
            return None
        return self._next_of_families(trials)

    def _runs(self, trials: Sequence[Trial], phase: str) -> bool:
        return any(t.outcome is None for t in trials if t.phase == phase)

    def _next_untrained(self, trials: Sequence[Trial]) -> Candidate | None:
        """Before the control alone: what is trained tells more."""
        is_over = any(t.candidate.family == CONTROL for t in trials)
        if is_over or not self.prunes_untrained or self._needs_cuts(trials):
            return None
        mode = self.written_modes(trials)[0]
        return next_untrained(trials, self.ground, self.goal, mode)

    def _needs_cuts(self, trials: Sequence[Trial]) -> bool:
        """Whether RAM is missed, which zeros make no less and cuts that fit will."""
        most = self.goal.bounds.get("max_arena")
        if most is None or self.ground.cut_arena is None or self.trainings < 2:
            return False
        modes = self.ground.modes
        plain = [t for t in plain_files(trials) if t.candidate.mode in modes]
        missed = all(t.costs["arena"] > most for t in plain)
        return self.ground.trains and bool(plain) and missed

    def _next_varied_untrained(
        self, trials: Sequence[Trial]
    ) -> tuple[Candidate, Phase] | None:
        if self._runs(trials, "one-shot") or not self.prunes_untrained:
            return None
        mode = self.written_modes(trials)[0]
        found = vary_untrained(trials, self.ground, self.goal, mode)
        return None if found is None else (found, "vary")

    def _next_control(self, trials: Sequence[Trial]) -> Candidate | None:
        controls = [t for t in trials if t.candidate.family == CONTROL]
        if any(t.outcome is None for t in controls):
            return None
        tried = {t.candidate.rate for t in controls}
        if any(self._keeps(t) for t in controls):
            return None
        rates = [rate for rate in RATES if rate not in tried]
        return (
            Candidate(family=CONTROL, mode="float32", rate=rates[0]) if rates else None
        )

    def _keeps(self, trial: Trial) -> bool:
        """Whether training on left the dense model as good as it was."""
        if not trial.is_finished:
            return False
        bound = self.goal.bound
        return bound.lost(self.score(trial)) <= bound.clearly(_HARMED)

    def score(self, trial: Trial) -> float:
        """Of a finished trial, by the metric that decides."""
        return trial.metrics[self.goal.bound.metric]

    def best_control(self, trials: Sequence[Trial]) -> Trial | None:
        """The dense control that scores best."""
        found = [t for t in trials if t.candidate.family == CONTROL and t.is_finished]
        return min(
            found, key=lambda t: self.goal.bound.lost(self.score(t)), default=None
        )

    def _rate(self, trials: Sequence[Trial]) -> float | None:
        """The rate at which trials train; None where the model cannot be trained."""
        controls = [t for t in trials if t.candidate.family == CONTROL]
        kept = [t.candidate.rate for t in controls if self._keeps(t)]
        best = self.best_control(trials)
        if best is None:
            return None
        return max(kept, default=best.candidate.rate)

    def _next_of_families(
        self, trials: Sequence[Trial]
    ) -> tuple[Candidate, Phase] | None:
        rate = self._rate(trials)
        families = self.families(trials)
        if rate is None or not families:
            return None
        # What a file costs needs no training to be known.
        judges = self.goal.bound.drop is not None
        if self.trainings < _ENOUGH_FOR_TWO:
            families = self._by_promise(trials, families)[:1]
        if judges and self.ground.epochs_of(SHORT) < self.ground.epochs:
            for family in families:
                found = self._along(trials, family, rate, "short")
                if found is not None:
                    return found, "short"
            if self._runs(trials, "short"):
                return None
        if self.keeps_all and (dense := self._next_dense(trials)) is not None:
            return dense, "dense"
        for family in self._by_promise(trials, families):
            if (found := self._along(trials, family, rate, "full")) is not None:
                return found, "full"
            if self._runs(trials, "full"):
                return None
        varied = self._varied(trials)
        return None if varied is None else (varied, "vary")

    def _next_dense(self, trials: Sequence[Trial]) -> Candidate | None:
        """The model trained on, where the first full training lost too much.

        Where training on makes it better than it was, no file of the model as it is may
        be within the bound, and this one is.
        """
        if not any(t.phase == "full" and t.outcome is not None for t in trials):
            return None
        control, mode = self.best_control(trials), self._mode(trials)
        plain = [t for t in trials if t.candidate == Candidate(family=FILES, mode=mode)]
        known = [t for t in trials if t.is_finished and t.candidate.is_deployed]
        is_met = any(self.goal.is_met(self.score(t), t.costs) for t in known)
        if control is None or self.goal.bound.drop is None or is_met:
            return None
        fits = any(self.goal.excess(t.costs) <= 0 for t in plain if t.is_finished)
        dense = Candidate(family=DENSE, mode=mode, rate=control.candidate.rate)
        return dense if fits and dense not in {t.candidate for t in trials} else None

    def can_train(self, trials: Sequence[Trial]) -> bool:
        """Whether the model can be trained, and plain trials are through."""
        early = ("files", "control", "short")
        waits = any(self._runs(trials, phase) for phase in early)
        trained = self.ground.trains and self._rate(trials) is not None
        return trained and not waits

    def _varied(self, trials: Sequence[Trial]) -> Candidate | None:
        """The best full trial with one setting changed, until each was tried."""
        full = [t for t in trials if t.phase in ("full", "vary")]
        best = min((t for t in full if t.is_finished), key=self._rank, default=None)
        done = sum(t.phase == "vary" for t in full)
        if best is None or self.ground.families == ("cut",):
            return None
        tried = {t.candidate for t in trials}
        cuts = best.candidate.family == "cut"  # whose weights neither fall nor round
        changes = [change for change in _CHANGES if "rate" in change or not cuts]
        for change in changes[done:]:
            candidate = dataclasses.replace(best.candidate, **change)
            if candidate not in tried:
                return candidate
        return None

    def _rank(self, trial: Trial) -> tuple[float, ...]:
        return self.goal.rank(self.score(trial), trial.costs)

    def families(self, trials: Sequence[Trial]) -> list[str]:
        """The families that the model can take: none of whose trials failed first."""
        failed = {
            t.candidate.family
            for t in trials
            if t.outcome is not None and t.outcome.status == FAILED
        }
        done = {t.candidate.family for t in trials if t.is_finished}
        return [f for f in self.ground.families if f not in failed or f in done]

    def _of(self, trials: Sequence[Trial], family: str, phase: str) -> list[Trial]:
        return [t for t in trials if t.candidate.family == family and t.phase == phase]

    def _along(
        self, trials: Sequence[Trial], family: str, rate: float, phase: Phase
    ) -> Candidate | None:
        """The next trial on a family's line, until its edge is found."""
        mine = self._of(trials, family, phase)
        short = phase == "short"
        if len(mine) >= (self._most_short if short else _MOST_FULL):
            return None
        used = _USED_SHORT if short else _USED_FULL
        found = {t.candidate.keep: self._position(t, used) for t in mine if t.outcome}
        least = self.ground.least_kept
        start = (
            self._first(trials, family, _START, _BEARS)
            if short
            else self._start(trials, family)
        )
        keep = next_share(
            found,
            [t.candidate.keep for t in mine if t.outcome is None],
            start=max(start, least),
            least=least,
            most=self.ground.most_kept(family),
        )
        if keep is None:
            return None
        return Candidate(
            family=family,
            keep=float(f"{keep:.3g}"),
            rate=rate,
            mode=self._mode(trials),
            effort=SHORT if short else 1.0,
        )

    @property
    def _most_short(self) -> int:
        """Short trials of a family: a third of all trainings, and none of a few."""
        if self.trainings < _FEW:
            return 0
        return int(min(_MOST_SHORT, (self.trainings - 1) // 3))

    def _position(self, trial: Trial, used: float) -> float:
        if not trial.is_finished:
            return math.inf  # hopeless: more must stay
        return self.goal.position(self.score(trial), trial.costs, used)

    def _start(self, trials: Sequence[Trial], family: str) -> float:
        """Where full trials begin: the smallest share that short ones could bear."""
        shorts = [t for t in self._of(trials, family, "short") if t.outcome]
        over = {
            t.candidate.keep: max(self.goal.excess(t.costs), 0.0)
            for t in shorts
            if t.is_finished
        }
        good = [
            t.candidate.keep
            for t in shorts
            if self._position(t, _USED_SHORT) <= 0 and not over[t.candidate.keep]
        ]
        if good:
            return min(good)
        if shorts:
            higher = _HIGHER * max(t.candidate.keep for t in shorts)
            # Costs need no full training to be known; they fall about as shares do.
            afforded = [keep / math.exp(much) for keep, much in over.items() if much]
            fitting = share_within_bytes(trials, family, self.ground, self.goal)
            known = [keep for keep, much in over.items() if not much]
            return min(higher, max([*(afforded or [fitting]), *known]))
        if self.goal.bound.drop is not None:
            return self._first(trials, family, _SAFE_START, _SURELY_BEARS)
        return self._first(trials, family, _START, 1.0)

    def _first(
        self,
        trials: Sequence[Trial],
        family: str,
        usual: Mapping[str, float],
        bears: float,
    ) -> float:
        """Where a family begins that nothing is known of but what fell at once."""
        borne = borne_untrained(trials, self.ground, self.goal)
        start = usual[family]
        if borne is not None and "prune" in family:
            start = bears * borne.candidate.keep
        return min(start, share_within_bytes(trials, family, self.ground, self.goal))

    def _by_promise(self, trials: Sequence[Trial], families: list[str]) -> list[str]:
        """Families whose short trials found cheap files within reach come first."""

        def cost(family: str) -> float:
            outcomes = [
                t.costs[self.goal.objective]
                for t in self._of(trials, family, "short")
                if t.is_finished
                and self.goal.bound.used(self.score(t)) <= 1.5 * _USED_SHORT
            ]
            return min(outcomes, default=math.inf)

        return sorted(
            families, key=lambda family: (cost(family), families.index(family))
        )

    def _mode(self, trials: Sequence[Trial]) -> str:
        """The quantization mode of trained files.

        Of `written_modes`, the one whose file of the untrained model is fastest: where
        zeros are to be compressed, modes cost the same and the one with float
        activations loses less.
        """
        written = self.written_modes(trials)
        if self.goal.objective != "latency":
            return written[0]
        costs = {t.candidate.mode: t.costs["latency"] for t in plain_files(trials)}
        return min(written, key=lambda mode: costs.get(mode, math.inf))

    def written_modes(self, trials: Sequence[Trial]) -> list[str]:
        """The quantization modes that the untrained model could be written in."""
        done = {t.candidate.mode for t in plain_files(trials)}
        modes = self.ground.modes
        return [mode for mode in modes if mode in done] or list(modes)
