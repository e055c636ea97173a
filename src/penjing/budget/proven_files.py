"""The files that a search ends with: verified where they are to run, then scored."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.budget.planning.known_trials import Trial
from penjing.budget.planning.space import FILES
from penjing.budget.search import Search
from penjing.budget.trial_costs import example_inputs
from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, ExportError, FileFormatError
from penjing.file_verification import verify
from penjing.measurement.latency import measure_latency
from penjing.pipeline.file_stages import FileStages
from penjing.pipeline.recipe_files import recipe_from_dict
from penjing.progress import Listener, Progress
from penjing.report.score_rows import ScoreRow
from penjing.specializing.data_sizes import at_sizes_of

# Files that a front shows: more of them do not help to choose.
MOST_SHOWN = 8
_ROUNDS = 30  # of the timing in turns

Stage = Callable[[str, Sequence[Path], Callable[[], Any]], Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ProvenFiles:
    """Proofs and test scores of trials' files, each kept as a stage.

    `stage` runs one, given its name and files, unless it is finished. The data has all
    parts; of its test part nothing is seen before the search is over.
    """

    search: Search
    model: keras.Model
    data: UserData
    runtime: str
    stage: Stage
    progress: Listener

    def path(self, trial: Trial) -> Path:
        """Of a finished trial's file."""
        name = trial.outcome.file if trial.outcome is not None else None
        return self.search.study.folder / trial.name / (name or "")

    def refusal(self, trial: Trial) -> str:
        """Why a file does not compute the same in its runtime; empty where it does."""
        path = self.path(trial)

        def prove() -> str:
            try:
                verify(path, self.runtime, inputs=self._inputs(), rounds=1)
            except (ExportError, FileFormatError) as error:
                return str(error)
            return ""

        self.progress(Progress(stage=f"Verifying {trial.name} for {self.runtime}"))
        refusal: str = self.stage(f"Verifying {trial.name}", [path], prove)
        return refusal

    def _inputs(self) -> Any:
        """A few validation inputs."""
        return example_inputs(self.model, self.data, "validation")

    def leave_out_wrong_ones(self) -> None:
        """Take trials out of the search whose files are wrong in their runtime.

        Those that the search would show are looked at, until all of these are right.
        """
        right: set[str] = set()
        while True:
            shown = [t for t in self.shown() if t.name not in right]
            if not shown:
                return
            for trial in shown:
                if not (reason := self.refusal(trial)):
                    right.add(trial.name)
                    continue
                self.search.leave_out(trial, reason)

    def time_again(self) -> str:
        """Time the files that are shown anew, in turns, until the best one stays.

        What trials measured is minutes apart, on a machine that does other work too.
        Says how that was done; nothing where no latency was asked for.
        """
        if "latency" not in self.search.goal.costs:
            return ""
        timed: set[str] = set()
        while (best := self.search.best()) is not None and best.name not in timed:
            timed |= self._time(self.shown(), timed)
        return (
            f"Latencies are medians of {_ROUNDS} rounds, in which files took turns "
            "with those of the model as it is."
        )

    def _time(self, shown: Sequence[Trial], timed: set[str]) -> set[str]:
        """Time trials' files and untrained ones against each other; gives the names.

        As much faster or slower as they are now, those are taken to be that never were.
        """
        finished = [t for t in self.search.study.trials if t.is_finished]
        untrained = [t for t in finished if t.candidate.family == FILES]
        trials = {t.name: t for t in (*untrained, *shown)}
        paths = {name: self.path(trial) for name, trial in trials.items()}

        def measure() -> dict[str, float]:
            with contextlib.ExitStack() as stack:
                sized = [
                    stack.enter_context(at_sizes_of(path, self._inputs))
                    for path in paths.values()
                ]
                report = measure_latency(sized, rounds=_ROUNDS, progress=False)
            rows = zip(paths, report.files, strict=True)
            return {name: row.milliseconds / 1000 for name, row in rows}

        self.progress(Progress(stage="Timing the files in turns"))
        stage = f"Timing {', '.join(trials)}"
        seconds = self.stage(stage, list(paths.values()), measure)
        drift = statistics.median(
            seconds[name] / trial.costs["latency"] for name, trial in trials.items()
        )
        for trial in finished:
            if trial.name in trials:
                self._set_latency(trial, seconds[trial.name])
            elif trial.name not in timed and "latency" in trial.costs:
                self._set_latency(trial, drift * trial.costs["latency"])
        return set(trials)

    def _set_latency(self, trial: Trial, seconds: float) -> None:
        if trial.outcome is not None:
            costs = {**trial.costs, "latency": seconds}
            outcome = dataclasses.replace(trial.outcome, costs=costs)
            self.search.study.finish(outcome)

    def shown(self) -> list[Trial]:
        """The best file, and those of the front; the cheapest one first."""
        best, front = self.search.best(), self.search.front()
        if best is None:
            return []
        if len(front) > MOST_SHOWN:
            step = (len(front) - 1) / (MOST_SHOWN - 1)
            front = [front[round(step * place)] for place in range(MOST_SHOWN)]
        # A file that only costs less than the best within the bounds is beside the
        # point of no front, but the chosen one must be there.
        names = {trial.name for trial in front}
        return front if best.name in names else [best, *front]

    def score(self, trial: Trial) -> ScoreRow | None:
        """Score a file on the test data; None where it does not run on it."""
        search = self.search
        recipe = search.ground.recipe(trial.candidate, trial.name)

        def stage(name: str, files: Sequence[Path], work: Callable[[], Any]) -> Any:
            self.progress(Progress(stage=f"Test data: {trial.name}"))
            return self.stage(f"Testing {trial.name}", [self.path(trial)], work)

        files = FileStages(
            model=self.model,
            data=self.data,
            recipe=recipe_from_dict(recipe.to_dict()),
            folder=search.study.folder / trial.name,
            imports=search.imports,
            has_ranges=False,
            stage=stage,
            progress=self.progress,
            only_result=True,
            part="test",
        )
        return files.score_file(self.path(trial).name)


def check_same(written: Path, proven: Path) -> None:
    """Refuse a file that is not the one that was proven and chosen."""
    if written.read_bytes() != proven.read_bytes():
        raise CompressionError(
            f"{written.name} was exported again and is not the file that was chosen "
            f"and verified. Deploy that one: {proven}."
        )
