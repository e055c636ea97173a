"""A recipe, run: smaller models and transforms first, then the training."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import keras

from penjing.data.data_sources import UserData
from penjing.engine.batchnorm_folding import fold_batch_normalization
from penjing.models.copying import copy_model
from penjing.models.graph_flow import trace_flow
from penjing.pipeline.best_epoch import EpochJudge
from penjing.pipeline.channel_recipe import ChannelPruneRecipe
from penjing.pipeline.channel_stages import ChannelStages
from penjing.pipeline.inputs.run_data import with_validation
from penjing.pipeline.learning_rate import STAGE, ChosenRate, choose_learning_rate
from penjing.pipeline.method_table import METHODS
from penjing.pipeline.one_shot_recipe import OneShotRecipe, apply_one_shot
from penjing.pipeline.recipe import (
    AUTO,
    QuantizeAwareRecipe,
    Recipe,
    TrainingRecipe,
    check_order,
)
from penjing.pipeline.recipe_files import as_recipe
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training import compile_arguments, train
from penjing.pipeline.training_data import TrainingData
from penjing.progress import Listener, Progress, listening


def run_recipe(
    model: keras.Model,
    data: Any,
    recipe: str | os.PathLike[str] | Recipe = "default",
    *,
    seed: int = 0,
    state: RunState | None = None,
    validation: Any = None,
    progress: Listener | bool = True,
) -> keras.Model:
    """Apply a recipe's methods to a model and train it through them.

    Args:
        model: A built Keras model; it is left alone.
        data: Training data: `(x, y)` or a loader.
        recipe: A recipe, its packaged name, or a TOML file.
        seed: Seed of the shuffling and of every global generator.
        state: Where the progress is kept, so that a killed run goes on.
        validation: Validation data in the same form, by which `keep_best` chooses;
            without it the recipe's `validation_split` is split off.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        The trained model with its transforms on; `penjing.strip` takes them off. Plain
        where the recipe cuts channels and does nothing else.

    Raises:
        RecipeError: If the recipe is wrong, or there is no loss.
        CompressionError: If the training diverges.
    """
    with listening(progress) as listen:
        recipe = as_recipe(recipe)
        arrays = tuple(data) if isinstance(data, list) else data
        parts = UserData(train=arrays, test=None, validation=validation, source="")
        parts = with_validation(parts, recipe.training, seed)
        return cut_and_train(
            model,
            parts.train,
            recipe,
            seed=seed,
            state=state,
            progress=listen,
            validation=parts.validation,
        ).model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What a recipe's training gave.

    Attributes:
        model: The model with its transforms on; plain where the recipe has none.
        cut: The model before its last training, with fewer channels where the recipe
            cuts some: later methods may fold layers of it away.
        notes: What was chosen on the way, for people.
    """

    model: keras.Model
    cut: keras.Model
    notes: tuple[str, ...] = ()


def cut_and_train(
    model: keras.Model,
    data: Any,
    recipe: Recipe,
    *,
    seed: int,
    state: RunState | None,
    progress: Listener,
    validation: Any = None,
    lowest: float | None = None,
) -> Trained:
    """Do what `run_recipe` does.

    `validation` is what epochs are judged by: of `lowest`, a score, a worse one raises
    a `HopelessError` in the last training, once all methods act in full.
    """
    source = TrainingData(source=data, batch_size=recipe.training.batch_size, seed=seed)
    cuts_channels, methods = split_channels(recipe)
    cut = model
    recipe, notes = _with_rate(model, recipe, source, state, progress)
    epochs = recipe.training.epochs_of(source.steps_per_epoch)
    judge = None
    if epochs and (recipe.training.keep_best or lowest is not None):
        judge = EpochJudge(
            original=model,
            training=recipe.training,
            part=validation,
            keeps=recipe.training.keep_best,
            lowest=lowest,
            state=state,
        )
    set_global_seeds(seed)
    if cuts_channels:
        stages = ChannelStages(
            original=model, recipe=recipe, data=source, state=state, progress=progress
        )
        cut = stages.run()
    steps = epochs * source.steps_per_epoch
    arguments = compile_arguments(model, recipe.training, steps)
    once = [method for method in methods if isinstance(method, OneShotRecipe)]
    for method in once:
        cut = apply_one_shot(cut, method, data, progress)
    set_global_seeds(seed)
    trained = _folded(cut, recipe)
    for method in methods[len(once) :]:
        trained = METHODS[type(method)](trained, method, training_steps=steps)
    if trained is cut:
        trained = copy_model(cut)
    trained.compile(**arguments)
    if state is not None:
        state.begin_training()
    train(trained, source, epochs, state=state, at_epoch_end=judge, progress=progress)
    kept = judge.restore(trained) if judge else ""
    notes += (kept,) if kept else ()
    return Trained(model=trained, cut=cut, notes=notes)


def _with_rate(
    model: keras.Model,
    recipe: Recipe,
    source: TrainingData,
    state: RunState | None,
    progress: Listener,
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with a learning rate where it left that open, and what was taken."""
    training = recipe.training
    if training.learning_rate != AUTO:
        return recipe, ()
    notes: tuple[str, ...] = ()
    if not training_steps(recipe, source.source):
        rate = TrainingRecipe.learning_rate  # nothing is trained at it
    else:

        def choose() -> dict[str, Any]:
            chosen = choose_learning_rate(model, source, training, progress=progress)
            return chosen.to_dict()

        found = state.run_stage(STAGE, [], choose) if state else choose()
        chosen = ChosenRate.from_dict(found)
        progress(Progress(stage=f"Note: {chosen}.", notice=True))
        rate, notes = chosen.value, (str(chosen),)
    training = dataclasses.replace(training, learning_rate=rate)
    return dataclasses.replace(recipe, training=training), notes


def training_steps(recipe: Recipe, data: Any, epochs: int | None = None) -> int:
    """Batches that are trained by a recipe in all, before and after each cut too.

    `epochs` are those of the last training, where they are fewer than planned.
    """
    source = TrainingData(source=data, batch_size=recipe.training.batch_size, seed=0)
    if epochs is None:
        epochs = recipe.training.epochs_of(source.steps_per_epoch)
    cuts_channels, _ = split_channels(recipe)
    if cuts_channels:
        cuts = recipe.methods[0]
        epochs += cuts.epochs_before + cuts.recovery_epochs * cuts.steps
    return epochs * source.steps_per_epoch


def _folded(model: keras.Model, recipe: Recipe) -> keras.Model:
    """The model without batch normalization where activations are rounded later.

    What is clustered cannot be folded any more.
    """
    rounds = any(
        isinstance(method, QuantizeAwareRecipe) and method.activations
        for method in recipe.methods
    )
    graph = rounds and trace_flow(model) is not None
    return fold_batch_normalization(model) if graph else model


def split_channels(recipe: Recipe) -> tuple[bool, tuple[Any, ...]]:
    """Whether a recipe cuts channels, which comes first and once, and the rest."""
    check_order(recipe.methods)
    cuts = isinstance(next(iter(recipe.methods), None), ChannelPruneRecipe)
    return cuts, recipe.methods[int(cuts) :]
