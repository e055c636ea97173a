"""From a model, data and a budget to the best file within it, and the report."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penjing.budget.budget import Budget
from penjing.budget.first_look import (
    with_decision_data,
)
from penjing.budget.planning.known_trials import Trial
from penjing.budget.preparation import Preparation
from penjing.budget.proven_files import ProvenFiles, check_same
from penjing.budget.search import Clock, Search
from penjing.budget.search_rows import FRONT_FOLDER, SearchRows
from penjing.budget.study import Study
from penjing.budget.trial import RECIPE, trial_run
from penjing.budget.workers import open_workers
from penjing.engine.log_metrics import Log
from penjing.errors import CompressionError, CompressionWarning
from penjing.export.litert import checked_imports, require_converter
from penjing.file_verification import require_runtime
from penjing.pipeline.compression import announce
from penjing.pipeline.file_stages import PACKED_FILE
from penjing.pipeline.inputs.run_data import data_parts
from penjing.pipeline.inputs.run_inputs import checked_inputs, judge_for
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
from penjing.progress import Listener, listening
from penjing.report.documents import Report

SEARCH_FOLDER = ".state/search"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BudgetRun:
    """One call of `compress` with a budget, once its inputs are checked.

    `workplace` are the arguments of `open_workers`, `commands` what gives the same
    again, as it is typed.
    """

    prepared: Preparation
    folder: Path
    imports: tuple[str, ...]
    restart: bool
    workplace: dict[str, Any]
    log: Log | None = None
    commands: tuple[str, ...] = ()

    def report(self) -> Report:
        """Search, prove and score what was found, and write it."""
        folder, prepared = self.folder / SEARCH_FOLDER, self.prepared
        ground, notes = prepared.ground, prepared.notes()
        for text in notes:
            warnings.warn(text, CompressionWarning, stacklevel=4)
        with open_workers(
            self.prepared.model,
            self.prepared.data,
            folder,
            imports=self.imports,
            progress=self.prepared.progress,
            **self.workplace,
        ) as workers:
            search = Search(
                study=Study(folder, ground, self.prepared.seed),
                ground=ground,
                goal=prepared.goal(),
                workers=workers,
                clock=Clock(folder, self.prepared.budget.seconds),
                trainings=self.prepared.budget.trials,
                pace=prepared.look.pace,
                steps_per_epoch=prepared.look.steps_per_epoch,
                seed=self.prepared.seed,
                imports=self.imports,
                progress=self.prepared.progress,
                log=self.log,
            )
            search.proof = self._proven(search).refusal
            search.run()
        return self._finish(search, notes)

    def _proven(self, search: Search) -> ProvenFiles:
        return ProvenFiles(
            search=search,
            model=self.prepared.model,
            data=self.prepared.data,
            runtime=self.prepared.budget.runtime,
            stage=self.prepared.state.run_stage,
            progress=self.prepared.progress,
        )

    def _finish(self, search: Search, notes: Sequence[str]) -> Report:
        """Prove, score once on the test data, and write all that was found."""
        proven = self._proven(search)
        proven.leave_out_wrong_ones()
        timing = proven.time_again()
        proven.leave_out_wrong_ones()  # those that are shown by their new times
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
            data_name=self.prepared.inputs.data_name,
            warned=(*self.prepared.inputs.warned, *notes, *run.source.state.warnings()),
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
            recipe,
            self.prepared.seed,
            self.prepared.model,
            data_parts(self.prepared.data, None),
            self.imports,
        )
        state = RunState(self.folder / STATE_FOLDER, digest, restart=self.restart)
        if state.origin != "resumed":
            # Of another result, which may have been packed.
            remove_files(self.folder, [*REPORTS, PACKED_FILE])
        return TakenOver(
            model=self.prepared.model,
            data=self.prepared.data,
            recipe=recipe,
            folder=self.folder,
            seed=self.prepared.seed,
            imports=self.imports,
            state=state,
            progress=self.prepared.progress,
            source=self._trial(search, best),
        )

    def _trial(self, search: Search, trial: Trial) -> StagedRun:
        return trial_run(
            search.order(trial),
            self.prepared.model,
            dataclasses.replace(self.prepared.data, test=None),  # as its worker saw it
            search.study.folder / trial.name,
            progress=self.prepared.progress,
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
    training: bool,
    labels: bool,
    progress: Listener | bool,
    log: Log | None = None,
    **workplace: Any,
) -> Report:
    """Find the best file within a budget; see `penjing.compress`."""
    require_runtime(budget.runtime)
    require_converter()
    set_global_seeds(seed)
    source, given = as_absolute(model), as_absolute(data)
    modules = checked_imports(imports)
    same: dict[str, Any] = {"imports": modules, "seed": seed, "pixels": pixels}
    same |= {"training": training, "labels": labels}
    same["accept_baseline"] = accept_baseline
    written = _written(out, [source, given], overwrite)
    check_outputs(**written)
    judge = judge_for(budget.metric, training=training, labels=labels)
    how: dict[str, Any] = {"seed": seed, "pixels": pixels, "judge": judge}
    inputs = checked_inputs(
        source, data, TrainingRecipe(), accept_baseline=accept_baseline, **how
    )
    user_data, held_out = with_decision_data(inputs.data, budget.validation_from, seed)
    parts = [_identity(budget, training, labels), *data_parts(user_data, data)]
    digest = digest_of_run(_any_recipe(), seed, source, parts, modules)
    with output_folder(**written) as folder, listening(progress) as listen:
        state = _state(folder, digest, restart)
        announce(state, folder, user_data.notes, listen)
        run = BudgetRun(
            prepared=Preparation(
                inputs=inputs,
                data=user_data,
                held_out=held_out,
                budget=budget,
                seed=seed,
                state=state,
                progress=listen,
                trains=training,
            ),
            folder=folder,
            imports=modules,
            restart=restart,
            workplace=workplace,
            log=log,
            commands=(
                compress_command(model, data, budget=budget.to_dict(), **same),
                compress_command(model, data, RECIPE, **same),
            ),
        )
        return run.report()


def _written(out: Any, inputs: list[Any], overwrite: bool) -> dict[str, Any]:
    """What is written, as `output_folder` takes it."""
    return {
        "path": as_folder(out),
        "names": [*output_names(_any_recipe()), PACKED_FILE, RECIPE, FRONT_FOLDER],
        "inputs": inputs,
        "overwrite": overwrite,
    }


def _state(folder: Path, digest: str, restart: bool) -> RunState:
    search = folder / SEARCH_FOLDER
    state = RunState(search, digest, restart=restart)
    # Once for this search, and again where a kill came in between.
    state.run_stage("Others removed", [], lambda: _remove_trials(search))
    return state


def _identity(budget: Budget, training: bool, labels: bool) -> dict[str, Any]:
    """What makes it another search; with more time or trials it goes on."""
    switches = {"training": training, "labels": labels}
    return {**budget.identity, **{key: v for key, v in switches.items() if not v}}


def _any_recipe() -> Recipe:
    return Recipe(name="search", training=TrainingRecipe(epochs=0), methods=())


def _remove_trials(folder: Path) -> None:
    """Remove what a search for something else left."""
    remove_files(folder, ["study.db*", "clock.json"])
    for path in folder.glob("[0-9][0-9][0-9][0-9]"):
        shutil.rmtree(path)
