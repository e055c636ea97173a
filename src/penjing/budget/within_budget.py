"""From a model, data and a budget to the best file within it, and the report."""

from __future__ import annotations

import dataclasses
import math
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.budget.bounds.bound import Bound, bound_on, memory_warning, noise_warning
from penjing.budget.bounds.goal import Goal
from penjing.budget.budget import Budget
from penjing.budget.first_look import (
    FirstLook,
    batch_size_for,
    count_prunable,
    look_at,
    with_decision_data,
)
from penjing.budget.planning.known_trials import Trial
from penjing.budget.planning.space import Ground
from penjing.budget.proven_files import ProvenFiles, check_same
from penjing.budget.search import Clock, Search
from penjing.budget.search_rows import FRONT_FOLDER, SearchRows
from penjing.budget.study import Study
from penjing.budget.trial import RECIPE, trial_run
from penjing.budget.workers import open_workers
from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, CompressionWarning
from penjing.export.litert import checked_imports, require_converter
from penjing.file_verification import require_runtime
from penjing.measurement.scoring import first_metric
from penjing.pipeline.compression import announce
from penjing.pipeline.file_stages import PACKED_FILE
from penjing.pipeline.inputs.run_data import data_parts
from penjing.pipeline.inputs.run_inputs import RunInputs, checked_inputs
from penjing.pipeline.learning_rate import ChosenRate, choose_learning_rate
from penjing.pipeline.recipe import Recipe, TrainingRecipe
from penjing.pipeline.run_command import compress_command
from penjing.pipeline.runs.output_folder import (
    as_absolute,
    as_folder,
    check_outputs,
    claim_outputs,
    output_folder,
)
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_digest import digest_of_run
from penjing.pipeline.runs.run_state import RunState, remove_files
from penjing.pipeline.staged_run import STATE_FOLDER, StagedRun, TakenOver
from penjing.pipeline.stages import REPORTS, Stages, output_names
from penjing.pipeline.training_data import TrainingData
from penjing.progress import Listener, Progress, listening
from penjing.report.documents import Report

SEARCH_FOLDER = ".state/search"
# Batches of a full training, from where longer ones hardly pay, and its epochs.
_LEAST_STEPS, _EPOCHS, _MOST_EPOCHS = 6_000, 16, 50
# Full trainings that a search needs to be one: the control, short ones, four full ones.
_TRAININGS = 8.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BudgetRun:
    """One call of `compress` with a budget, once its inputs are checked.

    `held_out` says what of the data its validation part is; `workplace` are the
    arguments of `open_workers`, `commands` what gives the same again, as it is typed.
    """

    inputs: RunInputs
    data: UserData
    held_out: TrainingRecipe
    budget: Budget
    folder: Path
    seed: int
    imports: tuple[str, ...]
    state: RunState
    restart: bool
    workplace: dict[str, Any]
    progress: Listener
    commands: tuple[str, ...] = ()

    @property
    def model(self) -> keras.Model:
        """The model that was given."""
        return self.inputs.model

    def report(self) -> Report:
        """Search, prove and score what was found, and write it."""
        folder = self.folder / SEARCH_FOLDER
        look = self._look()
        goal = self._goal(look)
        ground = self._ground(look, goal.bound.metric)
        notes = self._notes(look, goal.bound, ground)
        for text in notes:
            warnings.warn(text, CompressionWarning, stacklevel=4)
        with open_workers(
            self.model,
            self.data,
            folder,
            imports=self.imports,
            progress=self.progress,
            **self.workplace,
        ) as workers:
            search = Search(
                study=Study(folder, ground, self.seed),
                ground=ground,
                goal=goal,
                workers=workers,
                clock=Clock(folder, self.budget.seconds),
                trainings=self.budget.trials,
                pace=look.pace,
                steps_per_epoch=look.steps_per_epoch,
                seed=self.seed,
                imports=self.imports,
                progress=self.progress,
            )
            search.proof = self._proven(search).refusal
            search.run()
        return self._finish(search, notes)

    def _look(self) -> FirstLook:
        self.progress(Progress(stage="Looking at model and data"))
        training = TrainingRecipe(batch_size=batch_size_for(self.data))

        def look() -> dict[str, Any]:
            return look_at(self.model, self.data, training, self.seed).to_dict()

        return FirstLook.from_dict(self.state.run_stage("First look", [], look))

    def _ground(self, look: FirstLook, metric: str) -> Ground:
        bounds = self.budget.bounds
        return Ground(
            runtime=self.budget.runtime,
            objective=self.budget.objective,
            learning_rate=self._learning_rate(),
            epochs=self._kept_epochs(look),
            batch_size=batch_size_for(self.data),
            validation_split=self.held_out.validation_split,
            validation_from=self.held_out.validation_from,
            metric=None if metric == first_metric(look.metrics) else metric,
            weights=count_prunable(self.model),
            max_arena=int(bounds["max_arena"]) if "max_arena" in bounds else None,
            is_bounded=bool(bounds.keys() - {"max_bytes"}),
        )

    def _learning_rate(self) -> float:
        size = batch_size_for(self.data)
        source = TrainingData(source=self.data.train, batch_size=size, seed=self.seed)

        def choose() -> dict[str, Any]:
            training = TrainingRecipe(batch_size=size)
            return choose_learning_rate(
                self.model, source, training, progress=self.progress
            ).to_dict()

        found = self.state.run_stage("Learning rate", [], choose)
        return ChosenRate.from_dict(found).value

    def _kept_epochs(self, look: FirstLook) -> int:
        """Of a full training, as the search began: what is known had so many."""
        fit = self._epochs(look)
        kept = int(
            self.state.run_stage("Epochs", [], lambda: {"epochs": fit})["epochs"]
        )
        if fit > kept:
            text = (
                f"Full trainings have {kept} epochs, as when this search began; now "
                f"{fit} would fit. --restart begins anew, with those."
            )
            self.progress(Progress(stage=text, notice=True))
        return kept

    def _epochs(self, look: FirstLook) -> int:
        """Of a full training: as many as pay, and as the time bears."""
        steps = look.steps_per_epoch
        epochs = min(max(_EPOCHS, -(-_LEAST_STEPS // steps)), _MOST_EPOCHS)
        if self.budget.seconds is not None:
            each = 1.5 * look.pace * steps
            epochs = min(epochs, math.floor(self.budget.seconds / _TRAININGS / each))
        return max(epochs, 1)

    def _goal(self, look: FirstLook) -> Goal:
        bound = bound_on(
            look.metrics,
            look.directions,
            name=self.budget.metric,
            drop=self.budget.drop,
            bounded=bool(self.budget.bounds),
        )
        return Goal(
            bound=bound,
            bounds=self.budget.bounds,
            bytes_kind=self.budget.bytes_kind,
            objective=self.budget.objective,
        )

    def _notes(self, look: FirstLook, bound: Bound, ground: Ground) -> tuple[str, ...]:
        """What to know before anything is trained."""
        notes = []
        error = look.errors.get(bound.metric)
        if error is not None:
            notes.append(noise_warning(bound, error, look.test_samples))
            notes.append(
                memory_warning(
                    bound,
                    look.test_metrics[bound.metric],
                    error,
                    samples=look.samples,
                    others=look.test_samples,
                )
            )
        seconds = self.budget.seconds
        wanted = 1.5 * look.pace * look.steps_per_epoch * ground.epochs
        if seconds is not None and wanted * _TRAININGS / 2 > seconds:
            notes.append(
                f"A training takes about {wanted:.0f} s, and there are "
                f"{seconds:.0f} s: few trials fit. Give more `time` (--time), or "
                "less data."
            )
        return tuple(note for note in notes if note)

    def _proven(self, search: Search) -> ProvenFiles:
        return ProvenFiles(
            search=search,
            model=self.model,
            data=self.data,
            runtime=self.budget.runtime,
            stage=self.state.run_stage,
            progress=self.progress,
        )

    def _finish(self, search: Search, notes: Sequence[str]) -> Report:
        """Prove, score once on the test data, and write all that was found."""
        proven = self._proven(search)
        proven.leave_out_wrong_ones()
        timing = proven.time_again()
        search.study.write_database(search.goal)
        best = search.best()
        if best is None:
            raise CompressionError(
                "No file computes what the model computes: "
                + "; ".join(
                    f"{t.name}: {t.outcome.reason}"
                    for t in search.study.trials
                    if t.outcome is not None and t.outcome.reason
                )
            )
        rows = SearchRows(
            search=search,
            proven=proven,
            best=best,
            folder=self.folder,
            notes=notes,
            timing=timing,
        )
        more = {
            "budget": rows.budget(),
            "front": rows.front(),
            "control": rows.control(),
            "commands": self.commands,
        }
        run = self._final_run(search, best)
        stages = Stages(
            run=run,
            data_name=self.inputs.data_name,
            warned=(*self.inputs.warned, *notes, *run.source.state.warnings()),
            before=rows.untrained(),
            more=more,
        )
        report = stages.report()
        check_same(self.folder / report.result, proven.path(best))
        for row in report.refused:
            warnings.warn(f"{row.name}: {row.reason}", CompressionWarning, stacklevel=5)
        return report

    def _final_run(self, search: Search, best: Trial) -> TakenOver:
        """The run of the best recipe in the output folder, its training taken over."""
        recipe = search.ground.recipe(best.candidate, f"search-{best.name}")
        claim_outputs(self.folder, [RECIPE])
        shutil.copy2(search.study.folder / best.name / RECIPE, self.folder / RECIPE)
        digest = digest_of_run(
            recipe, self.seed, self.model, data_parts(self.data, None)
        )
        state = RunState(self.folder / STATE_FOLDER, digest, restart=self.restart)
        if state.origin != "resumed":
            # Of another result, which may have been packed.
            remove_files(self.folder, [*REPORTS, PACKED_FILE])
        return TakenOver(
            model=self.model,
            data=self.data,
            recipe=recipe,
            folder=self.folder,
            seed=self.seed,
            imports=self.imports,
            state=state,
            progress=self.progress,
            source=self._trial(search, best),
        )

    def _trial(self, search: Search, trial: Trial) -> StagedRun:
        return trial_run(
            search.order(trial),
            self.model,
            dataclasses.replace(self.data, test=None),  # as its worker saw it
            search.study.folder / trial.name,
            progress=self.progress,
        )


def compress_within(
    model: Any,
    data: Any,
    budget: Budget,
    *,
    out: Any,
    seed: int,
    imports: Sequence[str],
    restart: bool,
    pixels: str,
    accept_baseline: bool,
    overwrite: bool,
    progress: Listener | bool,
    **workplace: Any,
) -> Report:
    """Find the best file within a budget; see `penjing.compress`."""
    require_runtime(budget.runtime)
    require_converter()
    set_global_seeds(seed)
    source, given = as_absolute(model), as_absolute(data)
    modules = checked_imports(imports)
    written: dict[str, Any] = {
        "path": as_folder(out),
        "names": [*output_names(_any_recipe()), PACKED_FILE, RECIPE, FRONT_FOLDER],
        "inputs": [source, given],
        "overwrite": overwrite,
    }
    check_outputs(**written)
    inputs = checked_inputs(
        source,
        data,
        TrainingRecipe(),
        seed=seed,
        pixels=pixels,
        accept_baseline=accept_baseline,
    )
    same: dict[str, Any] = {"imports": modules, "seed": seed, "pixels": pixels}
    user_data, held_out = with_decision_data(inputs.data, budget.validation_from, seed)
    digest = _digest(budget, seed, source, data_parts(user_data, data))
    with output_folder(**written) as folder, listening(progress) as listen:
        state = RunState(folder / SEARCH_FOLDER, digest, restart=restart)
        announce(state, folder, user_data.notes, listen)
        search = folder / SEARCH_FOLDER
        # Once for this search, and again where a kill came in between.
        state.run_stage("Others removed", [], lambda: _remove_trials(search))
        run = BudgetRun(
            inputs=inputs,
            data=user_data,
            held_out=held_out,
            budget=budget,
            folder=folder,
            seed=seed,
            imports=modules,
            state=state,
            restart=restart,
            workplace={k: v for k, v in workplace.items() if v is not None},
            progress=listen,
            commands=(
                compress_command(model, data, budget=budget.to_dict(), **same),
                compress_command(model, data, RECIPE, **same),
            ),
        )
        return run.report()


def _digest(budget: Budget, seed: int, source: Any, data: list[Any]) -> str:
    """What a search depends on; with more time or trials it goes on."""
    return digest_of_run(_any_recipe(), seed, source, [budget.identity, *data])


def _any_recipe() -> Recipe:
    return Recipe(name="search", training=TrainingRecipe(epochs=0), methods=())


def _remove_trials(folder: Path) -> None:
    """Remove what a search for something else left."""
    remove_files(folder, ["study.db*", "clock.json"])
    for path in folder.glob("[0-9][0-9][0-9][0-9]"):
        shutil.rmtree(path)
