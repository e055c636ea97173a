"""The whole job: a model and data in; the best file within a budget, a report out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from penjing.arguments import check_integer
from penjing.budget.budget import Budget
from penjing.budget.told_results import tell_run
from penjing.budget.within_budget import compress_within
from penjing.budget.workplaces.distribution import distributed
from penjing.engine.log_metrics import Log, check_log
from penjing.errors import CompressionWarning
from penjing.pipeline.compression import compress as run_one_recipe
from penjing.pipeline.recipe import Recipe
from penjing.progress import Listener
from penjing.report.documents import Report


def compress(
    model: keras.Model | str | os.PathLike[str],
    data: Any,
    recipe: str | os.PathLike[str] | Recipe | None = None,
    *,
    budget: Budget | None = None,
    out: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    imports: Sequence[str] = (),
    restart: bool = False,
    pixels: str = "0-255",
    accept_baseline: bool = False,
    overwrite: bool = False,
    training: bool = True,
    labels: bool = True,
    workers: int = 1,
    ray: str | None = None,
    distribution: str | None = None,
    progress: Listener | bool = True,
    log: Log | None = None,
) -> Report:
    """Compress a model and measure what it cost, on the files that are deployed.

    With a budget, or with nothing, recipes are searched for the best file within it:
    channels, zeros, levels, learning rates. Decisions are made on validation data, that
    of `data` or a part that is split off its test data (or its training data, see
    `penjing.Budget`); the rest of the test data is scored once, at the end. The search
    leaves the best file, the front of all that no other beats, and for each the recipe
    that gives it again, in `out`. With a recipe that one is run.

    Killed at any moment, the same call goes on where it stopped, and ends with the
    same files; with more time or trials it goes on from what it knows. A loader must
    give the same batches in a new process, then, which one that keeps its own random
    state does not. The global seeds of Python, NumPy and Keras are set.

    A file whose export is refused is left out: the report says so, and why, in
    `refused`, and a `CompressionWarning` too.

    Args:
        model: A Keras model, or the path of a `.keras`, `.h5` or `.tflite` file.
        data: `((x_train, y_train), (x_test, y_test))`; `{"train": ..., "test": ...}`,
            and `"validation"`, with such pairs or loaders; an `.npz` file,
            `"module:function"` or a folder of images, see
            `penjing.data.data_sources.load_data`; or a `Dataset`.
        recipe: A recipe, its packaged name (`"default"`, `"article"`), or a TOML file.
        budget: What the file may cost and lose. None, without a recipe: the smallest
            file that loses at most half a point, looked for in 15 minutes.
        out: Folder for `model.keras`, `model.tflite`, `report.json`, `report.html`
            and the files they are compared with; created where it is missing. One run
            at a time can have it.
        overrides: Settings in place of the recipe's; see
            `penjing.pipeline.load_recipe`.
        seed: Seed of everything random.
        imports: Modules to import for the model's own registered classes.
        restart: Begin anew, whatever an earlier run has finished.
        pixels: What pixels go from and to where `data` is a folder of images:
            `"0-255"`, as Keras' own loader gives them, or `"0-1"`.
        accept_baseline: Go on with a classifier that is at chance level before
            anything is done to it, or that knows more of images in the other `pixels`.
        overwrite: Write over files of these names that no run of penjing wrote. The
            model, the data and the recipe are never written over.
        training: False: nothing is trained. Weights fall and are rounded at once, by
            what some inputs make flow through the model, which takes minutes. The
            model needs no loss, and the data no labels: without them files are compared
            with what the model itself gives.
        labels: False: labels are not looked at, and need not be there: what the model
            gives takes their place, in trainings too. The metric is then "agreement"
            (the share of inputs for which the same class is chosen),
            "cosine_similarity" or "r2_score", by which a file may lose 2 points unless
            the budget says otherwise. Inputs may be `x` alone, in an `.npz` file or a
            mapping, or images in no folders of classes; a part is held out then.
        workers: Processes that try recipes of a search at the same time.
        ray: Address of a Ray cluster that tries them in their place; `"auto"` for the
            one that runs here. It needs the extra penjing[ray].
        distribution: `"data-parallel"`: each training is spread over all devices by
            Keras' own `DataParallel`, which JAX has.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.
        log: A function of a name, a value and a step, as `penjing.LogMetrics` takes it.
            Of a search it is told each trial when it ends: "trial/gzip" and other
            costs, "trial/accuracy" and other validation metrics, "trial/sparsity",
            "trial/seconds", with the number of the trial as step. Of a recipe it is
            told the epochs of the training. Of both, in the end: "ratio", "before"
            and "after".

    Returns:
        The report that is also written; `report.budget.met` says whether the file is
        within the budget.

    Raises:
        CompressionError: If the model, the data, the recipe or the folder cannot be
            used, or the model is at chance level; the message says which and how to go
            on.
        ValueError: If `imports` names no module, or arguments contradict each other.

    Example:
        >>> report = compress(
        ...     "model.keras", "data.npz", budget=Budget(max_drop=0.5), out="out"
        ... )  # doctest: +SKIP
        >>> report.ratio  # doctest: +SKIP
        61.4
    """
    check_log(log)
    common: dict[str, Any] = {
        "out": out,
        "seed": seed,
        "imports": imports,
        "restart": restart,
        "pixels": pixels,
        "accept_baseline": accept_baseline,
        "overwrite": overwrite,
        "training": training,
        "labels": labels,
        "progress": progress,
    }
    if recipe is not None:
        _check_alone(budget, workers, ray)
        with distributed(distribution):
            report = run_one_recipe(model, data, recipe, overrides=overrides, **common)
        return tell_run(report, log)
    if overrides:
        raise ValueError(
            "`overrides` change settings of a `recipe`, and there is none: a search "
            "chooses them. Give `recipe` too, or leave `overrides` out."
        )
    if budget is not None and not isinstance(budget, Budget):
        raise ValueError(
            "`budget` must be a penjing.Budget, such as penjing.Budget(max_drop=0.5), "
            f"got {budget!r}."
        )
    check_integer("workers", workers, least=1)
    if not training and budget is not None and budget.trials is not None:
        raise ValueError(
            "`trials` counts trainings, and `training=False` (--no-training) has none, "
            f"got trials={budget.trials}. Leave one of them out; `time` (--time) ends "
            "both."
        )
    _check_times(budget or Budget(), workers, ray)
    with distributed(distribution):
        report = compress_within(
            model, data, budget or Budget(), workers=workers, ray=ray, log=log, **common
        )
    return tell_run(report, log)


def _check_times(budget: Budget, workers: int, ray: str | None) -> None:
    """Refuse, or warn of, latencies that are not those of this machine alone."""
    if "max_latency" not in budget.bounds and budget.objective != "latency":
        return
    if ray is not None:
        raise ValueError(
            "The budget is about latency, which is measured where a trial runs, and "
            f"the nodes of a cluster are other machines, got ray={ray!r}. Leave `ray` "
            "(--ray) out."
        )
    if workers > 1:
        warnings.warn(
            f"Latencies are measured beside the trainings of {workers} workers, and "
            "look longer than they are: files that keep `max_latency` may be passed "
            "over. Leave `workers` (--workers) out where times matter.",
            CompressionWarning,
            stacklevel=3,
        )


def _check_alone(budget: Budget | None, workers: int, ray: str | None) -> None:
    """Refuse what a single recipe cannot use."""
    given = {"budget": budget, "ray": ray, "workers": None if workers == 1 else workers}
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` is for a search, and `recipe` names one recipe to run, got "
                f"{name}={value!r}. Leave one of the two out."
            )
