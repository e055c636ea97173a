"""What `fit` does besides training: zeros written back, schedules watched."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from penjing.engine.engine import TransformEngine
from penjing.errors import CompressionWarning
from penjing.models.keras_private import trained_model


class TrainingGuard(keras.callbacks.Callback):
    """Writes zeros back after every epoch and says what a schedule will not reach."""

    def __init__(self, engine: TransformEngine, initial_epoch: int) -> None:
        super().__init__()
        self._engine = engine
        self._initial_epoch = initial_epoch
        self._warned = False
        self._last_step = 0

    def before(self, callbacks: Any) -> Any:
        """Callbacks as `fit` takes them, with this one before all others."""
        if isinstance(callbacks, keras.callbacks.CallbackList):
            self.set_model(trained_model(callbacks))
            self.set_params(callbacks.params)
            callbacks.callbacks.insert(0, self)
            return callbacks
        return [self, *keras.tree.flatten(callbacks or [])]

    def on_train_begin(self, logs: Any = None) -> None:
        """Warn of a schedule that ends after the training."""
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if steps is None or epochs is None:
            return
        epochs -= self._initial_epoch
        last = self._engine.count_steps() + steps * epochs
        self._warn(
            last, f"Training ends at step {last} ({epochs} epochs of {steps} steps)"
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the zeros back."""
        self._engine.write_back()

    def on_train_end(self, logs: Any = None) -> None:
        """Write the zeros back, where training ended within an epoch."""
        self._engine.write_back()
        self._last_step = self._engine.count_steps()

    def check_end(self) -> None:
        """Warn of what was not reached, after all callbacks have had their turn."""
        step = self._engine.count_steps()
        if step < self._last_step:  # EarlyStopping(restore_best_weights=True) does it
            self._warn(
                step,
                f"A callback restored the weights of step {step}",
                "Let it start later (`start_from_epoch`) or the schedule end earlier.",
            )
        elif not self._warned:  # the data gave out, or a callback stopped the training
            self._warn(step, f"Training ended at step {step}")

    def _warn(self, last_step: int, end: str, *remedy: str) -> None:
        for warning in unreached(self._engine, last_step, end, *remedy):
            self._warned = True
            warnings.warn(warning, CompressionWarning, stacklevel=4)


def unreached(
    engine: TransformEngine,
    last_step: int,
    end: str,
    remedy: str = "Train for longer or let the schedule end earlier.",
) -> list[str]:
    """What the transforms will not reach until `last_step`, one sentence for each."""
    pending = [transform.pending(last_step) for transform in engine.transforms]
    return [f"{end}, but {what}. {remedy}" for what in pending if what is not None]
