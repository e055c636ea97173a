"""The part of a recipe that makes a smaller model: cuts and recoveries."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from penjing.channels.channel_pruning import prune_channels
from penjing.channels.cut_search import OutOfReachError
from penjing.channels.group_lasso import GroupLasso
from penjing.channels.peak_memory import arena_of
from penjing.channels.target import LEAST_ARENA, arena_limit
from penjing.engine.batch_statistics import (
    find_batch_normalizations,
    reestimate_batch_normalization,
)
from penjing.errors import CompressionError, CompressionWarning, UnsupportedModelError
from penjing.models.copying import copy_model, name_weights, weight_paths
from penjing.models.model_files import load_keras_model
from penjing.pipeline.channel_recipe import ChannelPruneRecipe
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.runs.model_writing import write_keras
from penjing.pipeline.runs.random_state import set_global_seeds, stage_seed
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training import compile_arguments, train
from penjing.pipeline.training_data import TrainingData
from penjing.progress import Listener, Progress
from penjing.runtime.product_files import PRODUCT_MODES


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ChannelStages:
    """Cuts and recoveries, one after the other; finished ones are not run again.

    The original model says the loss and the metrics, and teaches. The first method of
    the recipe cuts channels. Without a state nothing is kept.
    """

    original: keras.Model
    recipe: Recipe
    data: TrainingData
    state: RunState | None
    progress: Listener

    @property
    def channels(self) -> ChannelPruneRecipe:
        """The part of the recipe that cuts channels."""
        return self.recipe.methods[0]  # type: ignore[no-any-return]

    def run(self) -> keras.Model:
        """Cut the channels of the model: a smaller, plain one, not compiled."""
        model, steps = self.original, self.channels.steps
        before, epochs = self.channels.epochs_before, self.channels.recovery_epochs
        if before:
            name = "Training before the cut"
            model = self._kept(name, self._trained, model, name, before, True)
        for step in range(1, steps + 1):
            which = f" {step} of {steps}" if steps > 1 else ""
            model = self._kept(f"Cutting channels{which}", self._cut, model, step)
            if epochs:
                name = f"Recovering{which}"
                lasso = step < steps
                model = self._kept(name, self._trained, model, name, epochs, lasso)
        return model

    def _kept(
        self, name: str, make: Callable[..., keras.Model], *arguments: Any
    ) -> keras.Model:
        """Run a stage whose result is a model, or load what it gave before.

        The result is loaded from its file in either case, and chance begins anew, so
        that what follows does not depend on whether the stage ran in this process.
        """
        self.progress(Progress(stage=name))
        seed = stage_seed(self.data.seed, name)
        set_global_seeds(seed)
        if self.state is None:
            return make(*arguments)
        path = Path(self.state.folder, f"{name.lower().replace(' ', '-')}.keras")

        def write() -> list[str]:
            model = make(*arguments)
            # Its loss may be of a class that cannot be saved.
            model.compiled = False
            write_keras(model, path)
            return weight_paths(model)

        paths = self.state.run_stage(name, [path], write)
        set_global_seeds(seed)
        model = load_keras_model(path, compile=False)
        name_weights(model, paths)
        return model

    def _cut(self, model: keras.Model, step: int) -> keras.Model:
        whole = copy_model(model)
        whole.compile(**self._compile_arguments(1))
        limits = {**self.channels.target_of_a_step(), **self._arena(model, step)}
        smaller = self._within_reach(whole, limits)
        batches = self.channels.batch_norm_batches
        if not batches or not find_batch_normalizations(smaller):
            return smaller
        return reestimate_batch_normalization(smaller, self._examples, batches=batches)

    def _within_reach(self, model: keras.Model, limits: dict[str, Any]) -> keras.Model:
        """Cut to limits, or as near to them as can be where that is enough."""
        try:
            return self._pruned(model, limits)
        except OutOfReachError as error:
            beyond = self._beyond(str(error), error.argument)
            nearer = {**limits, error.argument: error.in_reach}
            if not self.channels.best_effort or nearer == limits:
                raise CompressionError(beyond) from error
            instead = "The same share was cut of what can be cut."
            if error.argument == "max_arena":
                instead = "As much was cut as can be where memory is fullest."
        warnings.warn(f"{instead} {beyond}", CompressionWarning, stacklevel=3)
        return self._within_reach(model, nearer)

    def _arena(self, model: keras.Model, step: int) -> dict[str, int]:
        """The RAM that a cut leaves: an equal part, by factors, of those to come."""
        share = self.channels.max_arena
        if share is None:
            return {}
        try:
            most = arena_limit(share, arena_of(self.original))
            now = arena_of(model, weight_bits=self.channels.weight_bits)
        except UnsupportedModelError as error:
            if not self.channels.best_effort:
                raise
            text = f"RAM is not bounded: {error}"
            warnings.warn(text, CompressionWarning, stacklevel=2)
            return {}
        if now > most:
            most = now * (most / now) ** (1 / (self.channels.steps - step + 1))
        return {"max_arena": max(int(most), LEAST_ARENA)}

    @property
    def _examples(self) -> Any:
        """The training data without weights of samples, which are for training."""
        source = self.data.source
        return tuple(source[:2]) if self.data.is_arrays else source

    def _beyond(self, reason: str, key: str) -> str:
        """What is said of a key that cannot be met, and whose it is."""
        value, steps = getattr(self.channels, key), self.channels.steps
        share = f", {steps} cuts of an equal part" if steps > 1 else ""
        return (
            f"The recipe {self.recipe.name!r} asks for {key}={value}"
            f"{share}: {reason} These are keys of its method prune_channels."
        )

    def _pruned(self, model: keras.Model, limits: dict[str, Any]) -> keras.Model:
        return prune_channels(
            model,
            **limits,
            weight_bits=self.channels.weight_bits,
            importance=self.channels.importance,
            scope=self.channels.scope,
            round_to=self.channels.round_to,
            min_channels=self.channels.min_channels,
            include=self.channels.include,
            exclude=self.channels.exclude,
            data=self._examples,
            quantization=self._timed_file(),
            progress=self.progress,
        )

    def _timed_file(self) -> str | None:
        """The first kind of file to write, of those whose kernels can be timed."""
        timed = {mode.quantization for mode in PRODUCT_MODES}
        kinds = self.recipe.export.quantizations
        return next((kind for kind in kinds if kind in timed), None)

    def _trained(
        self, model: keras.Model, name: str, epochs: int, lasso: bool
    ) -> keras.Model:
        student = copy_model(model)
        arguments = self._compile_arguments(epochs * self.data.steps_per_epoch)
        learner = student
        if self.channels.distillation:
            arguments = {key: arguments[key] for key in ("optimizer", "loss")}
            learner = distilled_by(
                self.original,
                student,
                arguments["loss"],
                weight=self.channels.distillation,
                temperature=self.channels.temperature,
            )
        learner.compile(**arguments)
        callbacks = []
        if lasso and self.channels.group_lasso:
            callbacks = [
                GroupLasso(
                    self.channels.group_lasso,
                    include=self.channels.include,
                    exclude=self.channels.exclude,
                    model=student,
                )
            ]
        if self.state is not None:
            self.state.begin_training()
        train(
            learner,
            self.data,
            epochs,
            state=self.state,
            stage=name,
            callbacks=callbacks,
            progress=self.progress,
        )
        if self.state is not None:
            self.state.forget_variables()
        return student

    def _compile_arguments(self, steps: int) -> dict[str, Any]:
        rate = self.channels.learning_rate or self.recipe.training.learning_rate
        training = dataclasses.replace(self.recipe.training, learning_rate=rate)
        return compile_arguments(self.original, training, steps)


def distilled_by(
    teacher: keras.Model,
    student: keras.Model,
    loss: Any,
    *,
    weight: float,
    temperature: float,
) -> keras.Model:
    """Let a student learn from a copy of a teacher with Keras' own `Distiller`.

    Logits of classes are compared by their probabilities, which `temperature` softens,
    other outputs by the mean of their squared difference. That has the given weight in
    the whole loss, and the labels the rest. `Distiller` passes over sample weights, and
    over losses that layers and regularizers add. What is returned is compiled and
    trained in place of the student, which it changes.
    """
    losses = keras.distillation
    how: Any = losses.FeatureDistillation(loss="mse")
    if all(map(_takes_logits, keras.tree.flatten(loss))):
        how = losses.LogitsDistillation(temperature=temperature)
    return losses.Distiller(
        teacher=copy_model(teacher),
        student=student,
        distillation_losses=how,
        student_loss_weight=1.0 - weight,
    )


def _takes_logits(loss: Any) -> bool:
    """Whether a loss compares classes by their logits."""
    kinds = (
        keras.losses.CategoricalCrossentropy,
        keras.losses.SparseCategoricalCrossentropy,
    )
    return isinstance(loss, kinds) and bool(loss.get_config().get("from_logits"))
