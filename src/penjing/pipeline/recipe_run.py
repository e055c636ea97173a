"""A recipe, run: smaller models and transforms first, then the training."""

from __future__ import annotations

import os
from typing import Any

import keras

from penjing.engine.batchnorm_folding import fold_batch_normalization
from penjing.models.copying import copy_model
from penjing.models.graph_flow import trace_flow
from penjing.pipeline.channel_recipe import ChannelPruneRecipe
from penjing.pipeline.channel_stages import ChannelStages
from penjing.pipeline.method_table import METHODS
from penjing.pipeline.recipe import QuantizeAwareRecipe, Recipe, check_order
from penjing.pipeline.recipe_files import as_recipe
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training import compile_arguments, train
from penjing.pipeline.training_data import TrainingData
from penjing.progress import Listener, listening


def run_recipe(
    model: keras.Model,
    data: Any,
    recipe: str | os.PathLike[str] | Recipe = "default",
    *,
    seed: int = 0,
    state: RunState | None = None,
    progress: Listener | bool = True,
) -> keras.Model:
    """Apply a recipe's methods to a model and train it through them.

    Args:
        model: A built Keras model; it is left alone.
        data: Training data: `(x, y)` or a loader.
        recipe: A recipe, its packaged name, or a TOML file.
        seed: Seed of the shuffling and of every global generator.
        state: Where the progress is kept, so that a killed run goes on.
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
        return cut_and_train(
            model, data, recipe, seed=seed, state=state, progress=listen
        )[0]


def cut_and_train(
    model: keras.Model,
    data: Any,
    recipe: Recipe,
    *,
    seed: int,
    state: RunState | None,
    progress: Listener,
) -> tuple[keras.Model, keras.Model]:
    """Do what `run_recipe` does; gives the model before its last training too.

    That is the one with fewer channels, where the recipe cuts some: later methods may
    fold layers of it away.
    """
    source = TrainingData(source=data, batch_size=recipe.training.batch_size, seed=seed)
    cuts_channels, methods = split_channels(recipe)
    cut = model
    set_global_seeds(seed)
    if cuts_channels:
        stages = ChannelStages(
            original=model, recipe=recipe, data=source, state=state, progress=progress
        )
        cut = stages.run()
    epochs = recipe.training.epochs_of(source.steps_per_epoch)
    steps = epochs * source.steps_per_epoch
    arguments = compile_arguments(model, recipe.training, steps)
    set_global_seeds(seed)
    trained = _folded(cut, recipe)
    for method in methods:
        trained = METHODS[type(method)](trained, method, training_steps=steps)
    if trained is cut:
        trained = copy_model(cut)
    trained.compile(**arguments)
    if state is not None:
        state.history = []
    train(trained, source, epochs, state=state, progress=progress)
    return trained, cut


def training_steps(recipe: Recipe, data: Any) -> int:
    """Batches that are trained by a recipe in all, before and after each cut too."""
    source = TrainingData(source=data, batch_size=recipe.training.batch_size, seed=0)
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
    cuts = isinstance(recipe.methods[0], ChannelPruneRecipe)
    return cuts, recipe.methods[int(cuts) :]
