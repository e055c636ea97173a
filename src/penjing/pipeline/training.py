"""Fine-tuning that can be killed after any batch and goes on to the same result."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras

from penjing.arguments import did_you_mean
from penjing.errors import CompressionError, CompressionWarning, RecipeError
from penjing.measurement.metric_direction import LOWER, directions_of
from penjing.measurement.scoring import unknown_metric
from penjing.pipeline.recipe import AUTO, TrainingRecipe
from penjing.pipeline.runs.random_state import set_global_seeds, set_layer_seeds
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training_data import ArrayBatches, Segment, TrainingData
from penjing.progress import Listener, Progress

STEPS_BETWEEN_SAVES = 1000
SECONDS_BETWEEN_SAVES = 60.0
_STEPS_BETWEEN_MESSAGES = 10

EpochHook: TypeAlias = Callable[[int, keras.Model], Mapping[str, float] | None]


def compile_arguments(
    model: keras.Model, training: TrainingRecipe, steps: int
) -> dict[str, Any]:
    """Choose what `compile` needs from the recipe and the model.

    `steps`, the batches in the whole training, are for the rate's schedule.
    """
    chosen = loss_and_metrics(model, training)
    return {**chosen, "optimizer": build_optimizer(training, steps)}


def loss_and_metrics(model: keras.Model, training: TrainingRecipe) -> dict[str, Any]:
    """Choose them from the recipe and the model, as `compile` takes them.

    They are the model's where the recipe names none, and one must name a loss.
    """
    check_training(training)
    compiled = compiled_arguments(model)
    if training.loss is not None:
        compiled.pop("loss_weights", None)
        compiled["loss"] = build_loss(training.loss)
    if training.metrics is not None:
        compiled.pop("weighted_metrics", None)
        compiled["metrics"] = list(training.metrics)
    if compiled.get("loss") is None:
        raise RecipeError(
            f"The model {model.name!r} is not compiled and the recipe has no loss. "
            "Compile the model before saving it, or give a recipe (--recipe) that has, "
            'below [training]: loss = {name = "SparseCategoricalCrossentropy", '
            "from_logits = true}"
        )
    return compiled


def check_training(training: TrainingRecipe) -> None:
    """Refuse a loss and metrics that Keras does not have; it needs no model."""
    if training.loss is not None:
        build_loss(training.loss)
    if refusals := list(filter(None, map(unknown_metric, training.metrics or ()))):
        raise RecipeError(" ".join(refusals))


def compiled_arguments(model: keras.Model) -> dict[str, Any]:
    """Loss and metrics that a model was compiled with; the metrics are new objects."""
    config = (model.get_compile_config() if model.compiled else None) or {}
    arguments = {"loss": model.loss} if config else {}
    for key in ("loss_weights", "metrics", "weighted_metrics"):
        if config.get(key) is None:
            continue
        try:
            arguments[key] = keras.saving.deserialize_keras_object(config[key])
        except (TypeError, ValueError) as error:
            raise CompressionError(
                f"Cannot make the compiled {key} of {model.name!r} anew: {error}. "
                "Decorate your class or function with "
                "`keras.saving.register_keras_serializable`, or name metrics in the "
                "recipe."
            ) from error
    return arguments


def evaluation_metrics(model: keras.Model, training: TrainingRecipe) -> Any:
    """Metrics to measure with: of the recipe, else of the model, else the loss."""
    arguments = loss_and_metrics(model, training)
    return _own_metrics(arguments) or keras.tree.map_structure(
        _as_metric, arguments["loss"]
    )


def evaluation_arguments(
    model: keras.Model, training: TrainingRecipe
) -> dict[str, Any]:
    """What `evaluate` takes to measure what a model became, as a model or a file."""
    # What Keras calls a list of outputs, which files only number.
    numbered = isinstance(getattr(model, "output", None), (list, tuple))
    return {
        "metrics": evaluation_metrics(model, training),
        "output_names": model.output_names if numbered else None,
    }


def _own_metrics(arguments: dict[str, Any]) -> Any:
    return arguments.get("metrics") or arguments.get("weighted_metrics")


def metric_directions(
    model: keras.Model, training: TrainingRecipe, names: Iterable[str]
) -> dict[str, str]:
    """Which values are better of what `evaluation_metrics` measured, by its name."""
    metrics = _own_metrics(loss_and_metrics(model, training))
    if not metrics:
        return dict.fromkeys(names, LOWER)
    return directions_of(names, keras.tree.flatten(metrics))


def _as_metric(loss: Any) -> Any:
    """A metric that falls as the loss does: one of the same name may rise."""
    name = loss
    if isinstance(loss, str):
        with contextlib.suppress(ValueError):  # "crossentropy" goes by the labels
            loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        if isinstance(name, str):  # as it is, so by a function that can be told again
            function = getattr(loss, "fn", loss.call)
            return keras.metrics.MeanMetricWrapper(function, name=name)
        return keras.metrics.MeanMetricWrapper(loss.call, name=loss.name)
    if isinstance(name, str) and callable(loss):
        return keras.metrics.MeanMetricWrapper(loss, name=name)
    return loss


def build_optimizer(training: TrainingRecipe, steps: int) -> keras.Optimizer:
    """Build the optimizer with its learning rate's schedule, over `steps` batches.

    Its step count resumes with its variables. An open rate is a RecipeError.
    """
    if training.learning_rate == AUTO:
        raise RecipeError(
            f'`learning_rate` = "{AUTO}" is for recipes that are run: it takes a model '
            "and data to find one. Give a number."
        )
    rate: Any = training.learning_rate
    if training.learning_rate_schedule == "cosine":
        warmup = round(training.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else rate,
            decay_steps=max(steps - warmup, 1),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    optimizer = keras.optimizers.get(training.optimizer)
    return type(optimizer)(learning_rate=rate)


def build_loss(loss: str | dict[str, Any]) -> Any:
    """Build a loss from its name, or from a table of `name` and arguments."""
    if isinstance(loss, str):
        try:
            found = keras.losses.get(loss)
        except (TypeError, ValueError) as error:
            raise _unknown_loss(loss) from error
        if not callable(found) or found is keras.losses.Loss:
            raise _unknown_loss(loss)
        return found
    arguments = dict(loss)
    name = arguments.pop("name", None)
    cls = getattr(keras.losses, str(name), None)
    base = keras.losses.Loss
    if not inspect.isclass(cls) or not issubclass(cls, base) or cls is base:
        raise _unknown_loss(name)
    try:
        return cls(**arguments)
    except Exception as error:
        raise RecipeError(
            f"The loss {name} does not take {arguments}: {error}"
        ) from error


def _unknown_loss(name: Any) -> RecipeError:
    known = ["mse", "mae", *(key for key in dir(keras.losses) if key[0] != "_")]
    hint = did_you_mean(name, known, cutoff=0.5, form="`{}`")
    return RecipeError(f"Keras has no loss {name!r}.{hint}")


def train(
    model: keras.Model,
    data: TrainingData,
    epochs: int,
    *,
    state: RunState | None = None,
    stage: str = "Training",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    at_epoch_end: EpochHook | None = None,
    progress: Listener,
) -> list[dict[str, float]]:
    """Train a compiled model, from where an earlier run stopped; give its history.

    The state is saved every `STEPS_BETWEEN_SAVES` batches, and where an epoch ends
    `SECONDS_BETWEEN_SAVES` after the last time; for a loader after every epoch. Each
    epoch sets the global seeds anew, so a run that was killed gives the same weights as
    one that was not. Layers that draw from TensorFlow's global generator are the
    exception: its seed is set with the first of the epochs that `fit` runs together.
    The callbacks must keep nothing from one epoch to the next. `at_epoch_end` is called
    with each finished epoch, counted from 0, and the model, before the state is saved;
    what it gives goes into the epoch's history, what it raises ends the training. A
    loss that is no longer a finite number ends the training with a `CompressionError`.
    """
    segments = list(data.segments(epochs, STEPS_BETWEEN_SAVES))
    model.optimizer.build(model.trainable_variables)
    variables = _state_variables(model)
    set_layer_seeds(model, data.seed)
    position = state.restore_variables(variables, stage) if state else 0
    if position:
        epoch = segments[min(position, len(segments) - 1)].epoch + 1
        detail = f"going on in epoch {epoch} of {epochs}"
        progress(Progress(stage=stage, detail=detail, notice=True))
    history = state.history if state else []

    def save(finished: int) -> None:
        if state:
            state.save_variables(variables, finished, stage)

    while position < len(segments):
        group = data.together(segments[position:], STEPS_BETWEEN_SAVES)
        journal = _Journal(group, position, history, save, data, at_epoch_end)
        reporter = _BatchReporter(stage, group, data.steps_per_epoch, epochs, progress)
        _fit_together(model, data, group, [*callbacks, reporter, journal])
        position += len(group)
    return history


def _fit_together(
    model: keras.Model,
    data: TrainingData,
    segments: Sequence[Segment],
    callbacks: list[Any],
) -> None:
    set_global_seeds(data.segment_seed(segments[0]))
    batches = data.batches(segments[0])
    with warnings.catch_warnings(), _released(batches):
        # The model sees these segments and cannot know that training goes on.
        warnings.filterwarnings(
            "ignore", message="Training ends at step", category=CompressionWarning
        )
        model.fit(
            batches,
            epochs=len(segments),
            shuffle=False,
            verbose=0,
            callbacks=[_SeedCallback(data, segments), *callbacks],
        )


@contextlib.contextmanager
def _released(batches: Any) -> Iterator[None]:
    """Let go of what batches are made of, which `fit` may not do; a loader stays."""
    try:
        yield
    finally:
        if isinstance(batches, ArrayBatches):
            batches.release()


def _state_variables(model: keras.Model) -> list[Any]:
    """All that training changes: weights, masks, steps, seeds, optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in variables}.values())


class _SeedCallback(keras.callbacks.Callback):
    """Seeds each segment, the first once more after Keras has looked at the model.

    It does so in the first `fit` of a process alone, and draws random numbers.
    """

    def __init__(self, data: TrainingData, segments: Sequence[Segment]) -> None:
        super().__init__()
        self._seeds = [data.segment_seed(segment) for segment in segments]

    def on_train_begin(self, logs: Any = None) -> None:
        set_global_seeds(self._seeds[0])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch:
            set_global_seeds(self._seeds[epoch], tensorflow=False)


@dataclasses.dataclass(eq=False)
class _Journal(keras.callbacks.Callback):
    """Writes down what each segment gave, and saves it where that is due."""

    segments: Sequence[Segment]
    finished: int
    history: list[dict[str, float]]
    save: Callable[[int], None]
    data: TrainingData
    at_epoch_end: EpochHook | None

    def __post_init__(self) -> None:
        super().__init__()
        self._saved = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        number = self.segments[epoch].epoch
        scores = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(scores["loss"]):
            raise CompressionError(
                f"Training diverged in epoch {number + 1}: the loss is "
                f"{scores['loss']}. Lower `learning_rate` in the recipe, and check "
                "the data for NaN."
            )
        if self.segments[epoch].start and self.history[number:]:
            scores = _mean_of_pieces(self.history[number], scores, self.segments[epoch])
        if self.at_epoch_end and self.data.ends_epoch(self.segments[epoch]):
            scores |= self.at_epoch_end(number, self.model) or {}
        self.history[number:] = [scores]
        self.finished += 1
        now = time.monotonic()
        last = epoch + 1 == len(self.segments)
        if last or now - self._saved >= SECONDS_BETWEEN_SAVES:
            self.save(self.finished)
            self._saved = now


def _mean_of_pieces(
    before: Mapping[str, float], last: Mapping[str, float], segment: Segment
) -> dict[str, float]:
    """Scores of an epoch so far, of those before a segment and its own."""
    share = (segment.stop - segment.start) / segment.stop
    return {
        name: share * value + (1 - share) * before.get(name, value)
        for name, value in last.items()
    }


@dataclasses.dataclass(eq=False)
class _BatchReporter(keras.callbacks.Callback):
    """Tells the listener how far the training is."""

    stage: str
    segments: Sequence[Segment]
    steps: int
    epochs: int
    listener: Listener

    def __post_init__(self) -> None:
        super().__init__()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._segment = self.segments[epoch]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        segment = self._segment
        done = segment.epoch * self.steps + segment.start + batch + 1
        total = self.epochs * self.steps
        if done % _STEPS_BETWEEN_MESSAGES and done != total:
            return
        detail = f"epoch {segment.epoch + 1}/{self.epochs}"
        if logs and "loss" in logs:
            detail += f", loss {float(logs['loss']):.4f}"
        self.listener(Progress(stage=self.stage, done=done, total=total, detail=detail))
