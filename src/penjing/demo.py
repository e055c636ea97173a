"""The whole job on a real data set: train a baseline, compress it, measure all."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import keras

from penjing.data.architectures import build_architecture
from penjing.data.datasets import SMALL, Dataset, load_dataset
from penjing.pipeline import Recipe, compress, load_recipe
from penjing.pipeline.compression import make_folder
from penjing.pipeline.model_writing import write_keras
from penjing.pipeline.run_state import RunState, digest_of
from penjing.pipeline.training import set_global_seeds, train
from penjing.pipeline.training_data import TrainingData
from penjing.progress import Listener, Progress, listening
from penjing.report.documents import Report
from penjing.version import __version__

BASELINE_EPOCHS = 8
_BATCH_SIZE = 128
_LEARNING_RATE = 1e-3


def run_demo(
    *,
    dataset: str = SMALL,
    data_dir: str | os.PathLike[str] | None = None,
    model: str = "article",
    recipe: str | os.PathLike[str] | Recipe = "default",
    seed: int = 0,
    out: str | os.PathLike[str] = "penjing-demo",
    baseline_epochs: int = BASELINE_EPOCHS,
    epochs: int | None = None,
    restart: bool = False,
    progress: Listener | bool = True,
) -> Report:
    """Train a baseline on a named data set and compress it.

    Killed in the middle, the same call goes on where it stopped.

    Args:
        dataset: `"fashion-mnist-small"` (bundled) or `"fashion-mnist"`.
        data_dir: Folder of the full data set.
        model: `"article"`, `"lenet-300-100"`, `"lenet-5"` or `"cnn"`.
        recipe: How to compress.
        seed: Seed of everything random.
        out: Folder for models and reports; created where it is missing.
        baseline_epochs: Epochs of the baseline.
        epochs: Epochs of the compression, in place of the recipe's.
        restart: Begin anew, whatever an earlier run has finished.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        The report that is also written to `out`.

    Raises:
        CompressionError: If the data, the recipe or the folder cannot be used.
        ValueError: If a name or a number is out of range.

    Example:
        >>> run_demo(out="demo").ratio  # doctest: +SKIP
        13.4
    """
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if epochs is not None:
        training = dataclasses.replace(chosen.training, epochs=epochs, minimum_steps=0)
        chosen = dataclasses.replace(chosen, training=training)
    data = load_dataset(dataset, data_dir)
    folder = make_folder(out)
    with listening(progress) as listen:
        baseline = _train_baseline(
            data, model, folder, seed, baseline_epochs, restart, listen
        )
        return compress(
            baseline,
            data,
            chosen,
            out=folder,
            seed=seed,
            restart=restart,
            progress=listen,
        )


def _train_baseline(
    data: Dataset,
    name: str,
    folder: Path,
    seed: int,
    epochs: int,
    restart: bool,
    progress: Listener,
) -> Path:
    set_global_seeds(seed)
    model = build_architecture(
        name, data.x_train.shape[1:], classes=data.num_classes, seed=seed
    )
    model.compile(
        keras.optimizers.Adam(_LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    backend = keras.backend.backend()
    digest = digest_of(
        [
            [__version__, keras.__version__, backend, name, seed, epochs],
            data.x_train,
            data.y_train,
        ]
    )
    state = RunState(folder / ".state" / "baseline", digest, restart=restart)
    path = folder / "baseline.keras"

    def stage() -> None:
        source = TrainingData(
            source=(data.x_train, data.y_train), batch_size=_BATCH_SIZE, seed=seed
        )
        title = "Training the baseline"
        train(model, source, epochs, state=state, stage=title, progress=progress)
        write_keras(model, path)
        state.forget_variables()

    progress(Progress(stage=f"Data: {data.name}, {data.source}", notice=True))
    state.run_stage("Baseline", [path], stage)
    return path
