"""What a search found, as rows of a report; the files of the front are copied."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from penjing.budget.bounds.goal import amount_text
from penjing.budget.planning.known_trials import Trial, plain_files
from penjing.budget.planning.plan import Plan
from penjing.budget.planning.untrained_line import borne_untrained
from penjing.budget.proven_files import ProvenFiles
from penjing.budget.search import Search
from penjing.budget.trial import RECIPE
from penjing.pipeline.file_stages import RESULT, RESULT_KERAS
from penjing.pipeline.recipe_files import recipe_to_toml
from penjing.pipeline.runs.output_folder import claim_outputs
from penjing.pipeline.runs.run_state import remove_files
from penjing.report.search_rows import BudgetRow, ControlRow, FrontRow, StairRow

FRONT_FOLDER = "front"
_MINIMIZED = {
    "gzip": "gzipped bytes",
    "raw": "bytes",
    "latency": "milliseconds",
    "arena": "bytes of RAM",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SearchRows:
    """The rows of a finished search.

    `best` is the file that is deployed, `folder` that of the run; `notes` are what was
    told at the beginning, and `timing` says how latencies were measured.
    """

    search: Search
    proven: ProvenFiles
    best: Trial
    folder: Path
    notes: Sequence[str]
    timing: str = ""

    def untrained(self) -> tuple[StairRow, ...]:
        """Files on the way to the best one for which nothing was trained."""
        trials = self.search.study.trials
        files = [t for t in plain_files(trials) if t.candidate.mode != "float32"]
        least = min(files, key=lambda t: t.costs["gzip"], default=None)
        steps = [least]
        if self.best.candidate.is_trained:
            ground, goal = self.search.ground, self.search.goal
            steps.append(borne_untrained(trials, ground, goal))
        return tuple(
            self._step(trial)
            for trial in steps
            if trial is not None and trial.name != self.best.name
        )

    def _step(self, trial: Trial) -> StairRow:
        score = self.proven.score(trial)
        metric = self.search.goal.bound.metric
        return StairRow(
            step=trial.candidate.text(),
            bytes=int(trial.costs["gzip"]),
            raw=int(trial.costs["raw"]),
            score=None if score is None else score.metrics.get(metric),
        )

    def front(self) -> tuple[FrontRow, ...]:
        """Copy the files that no other one beats, and describe them."""
        folder = self.folder / FRONT_FOLDER
        claim_outputs(self.folder, [FRONT_FOLDER])
        for known in folder.glob("[0-9][0-9][0-9][0-9]"):
            _remove_ours(known)
        return tuple(self._copied(trial, folder) for trial in self.proven.shown())

    def _copied(self, trial: Trial, folder: Path) -> FrontRow:
        source, target = self.search.study.folder / trial.name, folder / trial.name
        target.mkdir(parents=True, exist_ok=True)
        path = self.proven.path(trial)
        for file in (path, source / RESULT_KERAS, source / RECIPE):
            if file.is_file():
                shutil.copy2(file, target / file.name)
        metric, costs = self.search.goal.bound.metric, trial.costs
        score = self.proven.score(trial)
        recipe = self.search.ground.recipe(trial.candidate, f"search-{trial.name}")
        within = f"{FRONT_FOLDER}/{trial.name}"
        return FrontRow(
            name=trial.name,
            file=f"{within}/{path.name}",
            folder=within,
            description=trial.candidate.text(),
            raw=int(costs["raw"]),
            gzip=int(costs["gzip"]),
            latency=costs.get("latency"),
            arena=int(costs["arena"]) if "arena" in costs else None,
            macs=costs.get("macs"),
            validation_score=trial.metrics[metric],
            test_score=None if score is None else score.metrics.get(metric),
            recipe=recipe_to_toml(recipe),
            chosen=trial.name == self.best.name,
        )

    def control(self) -> ControlRow | None:
        """The dense model, trained on as the recipes are; None where it cannot be."""
        plan = Plan(ground=self.search.ground, goal=self.search.goal)
        control = plan.best_control(self.search.study.trials)
        score = None if control is None else self.proven.score(control)
        if control is None or score is None or control.outcome is None:
            return None
        return ControlRow(
            name=control.name,
            kind="dense, trained as long",
            runtime=score.runtime,
            metrics=score.metrics,
            epochs=self.search.ground.passes_of(control.candidate),
            steps=control.outcome.steps,
        )

    def budget(self) -> BudgetRow:
        """What was allowed, and whether it is met."""
        search, goal = self.search, self.search.goal
        score = self.best.metrics[goal.bound.metric]
        texts = [
            f"{self._bounded(name)} at most {amount_text(name, most)}"
            for name, most in goal.bounds.items()
        ]
        if goal.bound.drop is not None:
            texts.insert(0, f"{goal.bound.metric} at most {goal.bound.drop} worse")
        return BudgetRow(
            bounds=tuple(texts),
            met=goal.is_met(score, self.best.costs),
            gaps=goal.gaps(score, self.best.costs),
            # Where only costs are bounded, the best score within them is looked for.
            minimized=_MINIMIZED[goal.objective] if goal.bound.drop else "",
            metric=goal.bound.metric,
            baseline=goal.bound.reference,
            lowest=goal.bound.lowest if goal.bound.drop is not None else None,
            trials=len(search.study.trials),
            seconds=round(search.clock.spent, 1),
            notes=tuple(filter(None, (*self.notes, self.timing))),
        )

    def _bounded(self, name: str) -> str:
        zipped = name == "max_bytes" and self.search.goal.bytes_kind == "gzip"
        return "gzipped bytes" if zipped else name.removeprefix("max_")


def _remove_ours(folder: Path) -> None:
    """Remove what an earlier run left of a file; what others put beside it stays."""
    remove_files(folder, [f"{RESULT}.*", RECIPE])
    with contextlib.suppress(OSError):  # not empty: something of the user's
        folder.rmdir()
