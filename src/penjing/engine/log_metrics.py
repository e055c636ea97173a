"""What training does to weights, told to whatever logs runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from penjing.arguments import check_integer
from penjing.engine.engine import TransformEngine
from penjing.engine.stripping import find_compressed_layers
from penjing.engine.transforms.clustering_transform import Cluster
from penjing.engine.transforms.pruning_transform import Prune
from penjing.engine.transforms.quantization_transform import FakeQuantize

Log: TypeAlias = Callable[[str, float, int], object]


class LogMetrics(keras.callbacks.Callback):
    """Tells a function of yours what training does: any logger fits.

    At the end of every epoch `log(name, value, step)` is told

    - what Keras measured, under Keras' names, as "loss" and "val_accuracy";
    - "sparsity", the fraction of zeros in all compressed weights, and
      "sparsity/PATH", that of each;
    - "schedule/PATH", the sparsity that the schedule asks of a pruned weight;
    - "bits/PATH", the bits of a quantized weight's grid, or the base-2 logarithm of a
      clustered weight's number of values.

    `step` counts the batches that the model was trained on. It works in `fit` of
    compressed models, of models with compressed layers and of plain ones, on every
    backend. `penjing.compress(..., log=log)` takes such a function too.

    Args:
        log: A function of a name, a value and a step.
        every: Batches between two tellings of weights within an epoch; None: at the end
            of epochs alone. Each reads all compressed weights.

    Raises:
        ValueError: If `log` is no function, or `every` is out of range.

    Example:
        A function that prints:

        >>> callback = LogMetrics(lambda name, value, step: print(name, value, step))

        MLflow:

        >>> import mlflow  # doctest: +SKIP
        >>> log = lambda name, value, step: mlflow.log_metric(name, value, step)
        >>> model.fit(x, y, callbacks=[LogMetrics(log)])  # doctest: +SKIP

        Weights & Biases, which passes over steps that go back, as those of trials do,
        but takes them as values:

        >>> import wandb; run = wandb.init()  # doctest: +SKIP
        >>> run.define_metric("*", step_metric="number")  # doctest: +SKIP
        >>> log = lambda name, value, step: run.log({name: value, "number": step})
        >>> model.fit(x, y, callbacks=[LogMetrics(log)])  # doctest: +SKIP

        TensorBoard, through the writer that Keras' own callback uses (it needs the
        package tensorboard):

        >>> writer = tf.summary.create_file_writer("logs")  # doctest: +SKIP
        >>> with writer.as_default():  # doctest: +SKIP
        ...     model.fit(x, y, callbacks=[LogMetrics(tf.summary.scalar)])
    """

    def __init__(self, log: Log, *, every: int | None = None) -> None:
        super().__init__()
        check_log(log)
        if every is not None:
            check_integer("every", every, least=1)
        self.log, self.every = log, every
        self._batches = self._due = 0
        self._last_batch = -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count batches anew."""
        self._last_batch = -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Tell of weights where it is due; several batches may have run at once."""
        ran = batch - self._last_batch
        self._last_batch = batch
        self._batches += ran
        self._due += ran
        if self.every is not None and self._due >= self.every:
            self._tell_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Tell what Keras measured, and of weights."""
        # On JAX, asking for the model brings its variables up to date.
        step = self._step(_engines(self.model))
        for name, value in (logs or {}).items():
            self.log(name, float(value), step)
        self._tell_weights()

    def _tell_weights(self) -> None:
        self._due = 0
        engines = _engines(self.model)
        step = self._step(engines)
        zeros = size = 0
        for path, value in _values(engines):
            gone = value.size - int(np.count_nonzero(value))
            zeros, size = zeros + gone, size + value.size
            self.log(f"sparsity/{path}", gone / max(value.size, 1), step)
        if size:
            self.log("sparsity", zeros / size, step)
        for engine in engines:
            for name, number in _settings(engine):
                self.log(name, number, step)

    def _step(self, engines: list[TransformEngine]) -> int:
        counted = [engine.count_steps() for engine in engines if engine.built]
        return max(counted, default=self._batches)


def check_log(log: object) -> None:
    """Refuse, with a ValueError, what cannot be called; None is no log."""
    if log is not None and not callable(log):
        raise ValueError(
            "`log` must be a function of a name, a value and a step, such as "
            f"lambda name, value, step: print(name, value, step); got {log!r}."
        )


def _engines(model: keras.Model) -> list[TransformEngine]:
    if isinstance(model, TransformEngine):
        return [model]
    return list(find_compressed_layers(model))


def _values(engines: list[TransformEngine]) -> Iterator[tuple[str, np.ndarray]]:
    for engine in engines:
        for path, value in engine.transformed_values().items() if engine.built else ():
            yield path, ops.convert_to_numpy(ops.cast(value, "float32"))


def _settings(engine: TransformEngine) -> Iterator[tuple[str, float]]:
    """What schedules ask for now, and the bits of grids and of shared values."""
    step = engine.count_steps() if engine.built else 0
    for transform in engine.transforms:
        paths = transform.weights_by_path
        if isinstance(transform, Prune):
            schedule, since = transform.config.schedule, step - transform.start_step
            begun = since >= max(schedule.begin_step, 1)
            asked = float(schedule(since)) if begun else 0.0
            for path, scale in zip(paths, transform.scales, strict=True):
                yield f"schedule/{path}", asked * scale
        elif isinstance(transform, Cluster):
            for path in paths:
                yield f"bits/{path}", math.log2(transform.config.num_clusters)
        elif isinstance(transform, FakeQuantize):
            for path, grid in zip(paths, transform.grids, strict=True):
                yield f"bits/{path}", float(grid.bits)
