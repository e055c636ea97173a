"""The whole job: model and data in; plain models, `.tflite` files, a report out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.errors import CompressionWarning
from penjing.export.litert import checked_imports
from penjing.pipeline.inputs.run_data import data_parts
from penjing.pipeline.inputs.run_inputs import checked_inputs, judge_for
from penjing.pipeline.inputs.teacher import FIDELITIES
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.recipe_files import as_recipe
from penjing.pipeline.run_command import compress_command
from penjing.pipeline.runs.output_folder import (
    as_absolute,
    as_folder,
    check_outputs,
    output_folder,
    shown,
)
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_digest import digest_of_run
from penjing.pipeline.runs.run_state import RunState, remove_files
from penjing.pipeline.staged_run import STATE_FOLDER, StagedRun
from penjing.pipeline.stages import REPORTS, Stages, output_names
from penjing.pipeline.training import check_training
from penjing.progress import Listener, Progress, listening
from penjing.report.documents import Report


def compress(
    model: keras.Model | str | os.PathLike[str],
    data: Any,
    recipe: str | os.PathLike[str] | Recipe = "default",
    *,
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
    progress: Listener | bool = True,
) -> Report:
    """Run one recipe and measure what it cost, on the files that are deployed.

    It is what `penjing.compress` does with a recipe, and takes what that takes, but for
    what is of a search; the files in `out`, resuming and what is refused are as there.

    Args:
        model: A Keras model, or the path of a `.keras`, `.h5` or `.tflite` file.
        data: See `penjing.compress`.
        recipe: A recipe, its packaged name (`"default"`, `"article"`), or a TOML file.
        out: Folder for the files and the report.
        overrides: Settings in place of the recipe's, such as
            `{"training.epochs": 5}`; see `penjing.pipeline.load_recipe`.
        seed: Seed of everything random.
        imports: Modules to import for the model's own registered classes.
        restart: Begin anew, whatever an earlier run has finished.
        pixels: See `penjing.compress`.
        accept_baseline: See `penjing.compress`.
        overwrite: See `penjing.compress`.
        training: False for a recipe without epochs, which may see inputs without
            labels and models without a loss.
        labels: See `penjing.compress`.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        The report that is also written.

    Raises:
        CompressionError: If the model, the data, the recipe or the folder cannot be
            used, or the model is at chance level; the message says which and how to go
            on.
        ValueError: If `imports` names no module.

    Example:
        >>> report = compress(
        ...     "model.keras", "data.npz", out="out"
        ... )  # doctest: +SKIP
        >>> report.ratio  # doctest: +SKIP
        13.4
    """
    set_global_seeds(seed)
    source, *others = map(as_absolute, (model, data, recipe))
    command = compress_command(
        model,
        data,
        recipe,
        overrides=overrides,
        imports=imports,
        seed=seed,
        pixels=pixels,
        training=training,
        labels=labels,
        accept_baseline=accept_baseline,
    )
    recipe = as_recipe(recipe, overrides)
    check_training(recipe.training)
    if not training and recipe.training.epochs:
        raise ValueError(
            f"`training=False` (--no-training) trains nothing, and the recipe "
            f"{recipe.name!r} trains {recipe.training.epochs} epochs. Leave it out, or "
            "set `training.epochs` to 0."
        )
    modules = checked_imports(imports)
    written: dict[str, Any] = {
        "path": as_folder(out),
        "names": output_names(recipe),
        "inputs": [source, *others],
        "overwrite": overwrite,
    }
    check_outputs(**written)
    inputs = checked_inputs(
        source,
        data,
        recipe.training,
        seed=seed,
        pixels=pixels,
        accept_baseline=accept_baseline,
        judge=judge_for(_fidelity(recipe), training=training, labels=labels),
    )
    loaded, user_data = inputs.model, inputs.data
    parts = data_parts(user_data, data)
    digest = digest_of_run(recipe, seed, source, parts, modules)
    with output_folder(**written) as folder, listening(progress) as listen:
        state = RunState(folder / STATE_FOLDER, digest, restart=restart)
        announce(state, folder, user_data.notes, listen)
        if state.origin != "resumed":
            # It is of files that do not stay.
            remove_files(folder, REPORTS)
        run = StagedRun(
            model=loaded,
            data=user_data,
            recipe=recipe,
            folder=folder,
            seed=seed,
            imports=modules,
            state=state,
            progress=listen,
        )
        report = Stages(
            run=run,
            data_name=inputs.data_name,
            warned=inputs.warned,
            commands=(command,),
        ).report()
    for row in report.refused:
        warnings.warn(f"{row.name}: {row.reason}", CompressionWarning, stacklevel=2)
    return report


def _fidelity(recipe: Recipe) -> str | None:
    """What a search judged by without labels, of which its recipe tells."""
    metric = recipe.training.keep_best_by
    return metric if metric in FIDELITIES else None


def announce(
    state: RunState, folder: Path, notes: Sequence[str], progress: Listener
) -> None:
    """Say how a run begins, and how its data was read."""
    where = shown(folder)
    texts = {
        "resumed": f"Going on where the last run in {where} stopped.",
        "changed": "The recipe or budget, model, its modules or data changed since the "
        f"last run in {where}: starting afresh.",
    }
    if state.origin in texts:
        progress(Progress(stage=texts[state.origin], notice=True))
    for note in notes:
        progress(Progress(stage=f"Data: {note}.", notice=True))
