"""The whole job on a real data set: train a baseline, compress it, measure all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras

from penjing.data.architectures import build_architecture
from penjing.data.datasets import Dataset, load_dataset
from penjing.demo_config import DemoConfig
from penjing.pipeline import Recipe, compress, load_recipe
from penjing.pipeline.runs.model_writing import write_keras
from penjing.pipeline.runs.output_folder import claim_outputs, output_folder
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_state import RunState, digest_of
from penjing.pipeline.stages import output_names
from penjing.pipeline.training import train
from penjing.pipeline.training_data import TrainingData
from penjing.progress import Listener, Progress, listening
from penjing.report.documents import Report
from penjing.version import __version__

BASELINE = "baseline.keras"
BASELINE_EPOCHS = 8
_BATCH_SIZE = 128
_LEARNING_RATE = 1e-3


def run_demo(
    config: DemoConfig | None = None, *, progress: Listener | bool = True
) -> Report:
    """Train a baseline on a named data set and compress it.

    Killed in the middle, the same call goes on where it stopped.

    Args:
        config: What to train and how to compress it; by default an article's model on
            the bundled images.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        The report that is also written to `config.out`.

    Raises:
        CompressionError: If the data, the recipe or the folder cannot be used.
        ValueError: If a name or a number is out of range.

    Example:
        >>> run_demo(DemoConfig(out="demo")).ratio  # doctest: +SKIP
        13.4
    """
    config = config or DemoConfig()
    recipe = _recipe(config)
    data = load_dataset(config.dataset, config.data_dir)
    names = [BASELINE, *output_names(recipe)]
    with (
        output_folder(
            config.out, names, inputs=[config.recipe], overwrite=config.overwrite
        ) as folder,
        listening(progress) as listen,
    ):
        return compress(
            _train_baseline(data, config, folder, listen),
            data,
            recipe,
            out=folder,
            seed=config.seed,
            restart=config.restart,
            overwrite=config.overwrite,
            progress=listen,
        )


def _recipe(config: DemoConfig) -> Recipe:
    recipe = config.recipe
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if config.epochs is None:
        return recipe
    training = dataclasses.replace(
        recipe.training, epochs=config.epochs, minimum_steps=0
    )
    return dataclasses.replace(recipe, training=training)


def _train_baseline(
    data: Dataset, config: DemoConfig, folder: Path, progress: Listener
) -> Path:
    name, seed = config.model, config.seed
    epochs = config.baseline_epochs
    epochs = BASELINE_EPOCHS if epochs is None else epochs
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
    state = RunState(folder / ".state" / "baseline", digest, restart=config.restart)
    path = folder / BASELINE

    def stage() -> None:
        source = TrainingData(
            source=(data.x_train, data.y_train), batch_size=_BATCH_SIZE, seed=seed
        )
        title = "Training the baseline"
        train(model, source, epochs, state=state, stage=title, progress=progress)
        claim_outputs(folder, [path.name])
        write_keras(model, path)
        state.forget_variables()

    progress(Progress(stage=f"Data: {data.name}, {data.source}", notice=True))
    state.run_stage("Baseline", [path], stage)
    return path
