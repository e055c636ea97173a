"""One trial of a search: a recipe's run, its file, the file's costs and score."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import keras

from penjing.budget.trial_costs import measure_costs
from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, MissingDependencyError
from penjing.files import DAMAGE, write_text
from penjing.json_values import JsonValue
from penjing.measurement.weight_report import WeightRow, total_sparsity
from penjing.pipeline.best_epoch import HopelessError
from penjing.pipeline.file_stages import RESULT_KERAS
from penjing.pipeline.inputs.run_data import data_parts
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.recipe_files import recipe_from_dict, recipe_to_toml
from penjing.pipeline.recipe_run import training_steps
from penjing.pipeline.runs.compiled_steps import steps_forgotten
from penjing.pipeline.runs.machine_faults import raise_machine_fault
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_digest import digest_of_run
from penjing.pipeline.runs.run_state import (
    HALF_WRITTEN,
    RunState,
    digest_of,
    remove_files,
)
from penjing.pipeline.staged_run import STATE_FOLDER, StagedRun
from penjing.progress import Listener, Progress

OUTCOME, RECIPE = "outcome.json", "recipe.toml"
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialOrder(JsonValue):
    """All that a trial needs beside the model and the data.

    Attributes:
        name: What its folder is called, as "0007".
        recipe: The recipe, as `Recipe.to_dict` gives it.
        seed: Seed of everything random in it.
        costs: What is measured of the file: "gzip" (bytes), "latency" (of the plain
            file, by LiteRT on this machine), "arena" (in TensorFlow Lite Micro),
            "macs". Its "raw" bytes always are.
        imports: Modules to import for the model's own registered classes.
        lowest: The training is stopped where, once all methods act in full, the
            validation score is worse than this; None: never.
    """

    name: str
    recipe: Mapping[str, Any]
    seed: int = 0
    costs: tuple[str, ...] = ("gzip",)
    imports: tuple[str, ...] = ()
    lowest: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialOutcome(JsonValue):
    """What a trial gave.

    Attributes:
        name: Its name, as the order has it.
        status: "finished", "stopped" (hopeless) or "failed".
        reason: Why it was stopped or failed, or what of it was left out.
        file: Name of the file to deploy in the trial's folder; None without one.
        metrics: Validation metrics of that file, in its runtime; of a stopped trial the
            score for which it was stopped.
        costs: Cost by name: "raw" and "gzip" in bytes, "latency" in seconds for one
            sample, "arena" in bytes, "macs" a number for one sample.
        steps: Batches that were trained.
        seconds: What it took, killed parts left out.
        sparsity: Fraction of zeros over all weights that can be compressed.
    """

    name: str
    status: str
    reason: str = ""
    file: str | None
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    steps: int
    seconds: float
    sparsity: float


def run_trial(
    order: TrialOrder,
    model: keras.Model,
    data: UserData,
    folder: Path,
    *,
    progress: Listener,
) -> TrialOutcome:
    """Run a recipe and measure its file, or give the outcome that is already there.

    Killed at any moment, the same call goes on where it stopped, to the same file. An
    error of the recipe, the training or the export is a failed trial. The global seeds
    of Python, NumPy and Keras are set.

    Args:
        order: What to do.
        model: A built model; it is left alone.
        data: Its `train` part lacks the `validation` part, which the file is scored on.
        folder: The trial's own; it is made. In the end it has `model.tflite`,
            `model.keras`, `recipe.toml` and, written last, `outcome.json`.
        progress: It is told how far the trial is; what it raises is passed on, and the
            trial stays unfinished.

    Raises:
        RecipeError: If the order's recipe is none.
        MissingDependencyError: If what every trial needs is not installed.
        CompressionError: If the folder cannot be written, or a disk is full.
    """
    heard = _Heard(progress)
    run = trial_run(order, model, data, folder, progress=heard)
    remove_files(folder, HALF_WRITTEN)
    if run.state.origin != "resumed":
        remove_files(folder, [OUTCOME])
    known = known_outcome(folder)
    if known is not None and (known.file is None or {*order.costs} <= {*known.costs}):
        return known
    if (folder / OUTCOME).exists() and known is None:
        text = f"{OUTCOME} or its file is damaged or gone: what lacks is done again."
        progress(Progress(stage=text, notice=True))
    write_text(folder / RECIPE, recipe_to_toml(run.recipe))
    try:
        with steps_forgotten():
            outcome = _finished(order, run)
    except HopelessError as error:
        run.state.forget_variables()
        outcome = dataclasses.replace(
            _without_file(order, run, STOPPED, str(error)),
            metrics=error.scores,
            steps=training_steps(run.recipe, data.train, epochs=error.epochs),
        )
    except MissingDependencyError:
        raise
    except Exception as error:
        if error is heard.raised:
            raise
        raise_machine_fault(error)
        outcome = _without_file(order, run, FAILED, _reason(error))
    write_text(folder / OUTCOME, json.dumps(outcome.to_dict(), indent=1))
    return outcome


def trial_run(
    order: TrialOrder,
    model: keras.Model,
    data: UserData,
    folder: Path,
    *,
    progress: Listener,
) -> StagedRun:
    """The stages of a trial, finished or not; see `run_trial`."""
    recipe = recipe_from_dict(dict(order.recipe), where=f"the trial {order.name}")
    set_global_seeds(order.seed)
    return StagedRun(
        model=model,
        data=data,
        recipe=recipe,
        folder=folder,
        seed=order.seed,
        imports=order.imports,
        state=RunState(folder / STATE_FOLDER, _digest(order, recipe, model, data)),
        progress=progress,
        lowest=order.lowest,
    )


def known_outcome(folder: Path) -> TrialOutcome | None:
    """The outcome that is written in a trial's folder; None where it is unfinished.

    So it is too where what is written makes no sense, or its file is gone or another.
    """
    try:
        table = json.loads((folder / OUTCOME).read_text("utf-8"))
        outcome = TrialOutcome.from_dict(table)
        if outcome.file is not None:
            size = (folder / outcome.file).stat().st_size
            if size != outcome.costs["raw"]:
                return None
    except DAMAGE:
        return None
    return outcome


def _finished(order: TrialOrder, run: StagedRun) -> TrialOutcome:
    files = run.files(only_result=True, part="validation")
    files.export()
    file = files.result
    row = None if file == RESULT_KERAS else files.score_file(file)
    left_out = " ".join(f"{r.name}: {r.reason}" for r in files.refused.values())
    if row is None:
        return _without_file(order, run, FAILED, left_out)
    costs = measure_costs(run, file, order.costs)
    weights = map(WeightRow.from_dict, run.trained["weights"])
    return dataclasses.replace(
        _without_file(order, run, FINISHED, left_out),
        file=file,
        metrics=row.metrics,
        costs=costs,
        steps=training_steps(run.recipe, run.data.train),
        sparsity=total_sparsity(weights),
    )


def _without_file(
    order: TrialOrder, run: StagedRun, status: str, reason: str
) -> TrialOutcome:
    return TrialOutcome(
        name=order.name,
        status=status,
        reason=reason,
        file=None,
        metrics={},
        costs={},
        steps=0,
        seconds=round(sum(run.state.seconds().values()), 2),
        sparsity=0.0,
    )


def _reason(error: Exception) -> str:
    foreseen = isinstance(error, (CompressionError, ValueError))
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


class _Heard:
    """A listener that keeps what it raised, which is no error of the trial."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.raised: BaseException | None = None

    def __call__(self, event: Progress) -> None:
        try:
            self._listener(event)
        except BaseException as error:
            self.raised = error
            raise


_digests: WeakKeyDictionary[UserData, str] = WeakKeyDictionary()


def _digest(
    order: TrialOrder, recipe: Recipe, model: keras.Model, data: UserData
) -> str:
    """What a trial depends on: costs do not count, they can be measured later.

    The data is read once for all trials.
    """
    if data not in _digests:
        _digests[data] = digest_of(data_parts(data, None))
    rest = [_digests[data], order.lowest]
    return digest_of_run(recipe, order.seed, model, rest, order.imports)
