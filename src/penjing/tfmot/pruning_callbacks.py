"""Callbacks with the names of tfmot."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from keras import ops

from penjing.errors import CompressionWarning
from penjing.models.engine import TransformEngine
from penjing.models.pruning_transform import Prune
from penjing.models.stripping import find_compressed_layers
from penjing.tfmot.event_file import EventFile


class UpdatePruningStep(keras.callbacks.Callback):
    """Writes zeros into the pruned weights at the end of every epoch.

    Pruning needs no callback: every batch trains on masked weights, and
    `strip_pruning` is exact at any time. With this one `model.weights` shows the zeros
    too, and a schedule that training is too short for is reported when it begins.

    Example:
        >>> callbacks = [UpdatePruningStep()]
    """

    def __init__(self) -> None:
        super().__init__()
        self._checked = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Have the schedule looked at when the first epoch begins."""
        self._checked = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Warn, once, of a schedule that ends after training."""
        params = self.params or {}  # none in a training loop of one's own
        steps, epochs = params.get("steps"), params.get("epochs")
        if self._checked or steps is None or epochs is None:
            return
        self._checked = True
        for engine in _find_engines(self.model):
            last = int(ops.convert_to_numpy(engine.step.value))
            last += steps * (epochs - epoch)
            for transform in engine.transforms:
                pending = transform.pending(last) if transform.weights_by_path else None
                if pending is not None:
                    warnings.warn(
                        f"Training ends at step {last}, but {pending}. Train for "
                        "longer or let the schedule end earlier.",
                        CompressionWarning,
                        stacklevel=2,
                    )
                    return

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Write the zeros; what tfmot's guide passes as `batch` is `epoch` in Keras."""
        for engine in _find_engines(self.model):
            engine.write_back()

    def on_train_end(self, logs: Any = None) -> None:
        """Write the zeros, where training ended within an epoch."""
        self.on_epoch_end()


class PruningSummaries(keras.callbacks.Callback):
    """Logs sparsities, thresholds and the metrics of training for TensorBoard.

    The files are written without TensorFlow or TensorBoard, on every backend:
    sparsities and thresholds to `metrics`, the logs of Keras to `train` and
    `validation`, all below `log_dir`.

    Args:
        log_dir: Folder of this run.
        update_freq: `"epoch"`, `"batch"`, or a number of batches: how often sparsities
            and thresholds are logged besides the beginning of epochs and the end.
        **kwargs: Other arguments of `keras.callbacks.TensorBoard`, such as
            `profile_batch=0`; a warning names those that ask for more than is logged.

    Raises:
        ValueError: If `log_dir` or `update_freq` is none of these.
        TypeError: If `TensorBoard` has no such argument.

    Example:
        >>> callbacks = [PruningSummaries(log_dir="logs")]
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        update_freq: str | int = "epoch",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        _check_board_arguments(kwargs)
        if not isinstance(log_dir, str | os.PathLike) or not os.fspath(log_dir):
            raise ValueError(
                f"`log_dir` must be the path of a folder, got {log_dir!r}."
            )
        every = {"epoch": 0, "batch": 1}.get(str(update_freq), update_freq)
        if not isinstance(every, int) or every < (update_freq != "epoch"):
            raise ValueError(
                "`update_freq` must be 'epoch', 'batch' or a number of batches, got "
                f"{update_freq!r}."
            )
        self.log_dir = Path(log_dir)
        self._every = every
        self._batches = 0
        self._files: dict[str, EventFile] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Log sparsities and thresholds."""
        self._log_pruning()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Log sparsities and thresholds, where asked for within epochs."""
        self._batches += 1
        if self._every and self._batches % self._every == 0:
            self._log_pruning()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log what Keras measured."""
        folders: dict[str, dict[str, float]] = {"train": {}, "validation": {}}
        for name, value in (logs or {}).items():
            folder = "validation" if name.startswith("val_") else "train"
            folders[folder][f"epoch_{name.removeprefix('val_')}"] = float(value)
        for folder, values in folders.items():
            if values:
                self._file(folder).add_scalars(values, epoch)

    def on_train_end(self, logs: Any = None) -> None:
        """Log sparsities and thresholds as they are in the end."""
        self._log_pruning()

    def _log_pruning(self) -> None:
        values = {}
        for mask, threshold in _find_masks(self.model):
            kept = ops.convert_to_numpy(ops.cast(mask.value, "float32"))
            values[f"{mask.path}/sparsity"] = 1.0 - float(kept.mean())
            values[f"{threshold.path}/threshold"] = float(
                ops.convert_to_numpy(threshold.value)
            )
        optimizer = getattr(self.model, "optimizer", None)
        iterations = getattr(optimizer, "iterations", 0)
        self._file("metrics").add_scalars(values, int(ops.convert_to_numpy(iterations)))

    def _file(self, folder: str) -> EventFile:
        if folder not in self._files:
            self._files[folder] = EventFile(self.log_dir / folder)
        return self._files[folder]


def _check_board_arguments(arguments: dict[str, Any]) -> None:
    """Refuse what `TensorBoard` does not take; warn of what it alone does."""
    inspect.signature(keras.callbacks.TensorBoard).bind_partial(**arguments)
    asked = sorted(name for name, value in arguments.items() if value)
    if asked:
        warnings.warn(
            f"PruningSummaries does nothing for {', '.join(asked)}. Add "
            "keras.callbacks.TensorBoard to the callbacks for what they log.",
            CompressionWarning,
            stacklevel=3,
        )


def _find_engines(model: keras.Model) -> list[TransformEngine]:
    if isinstance(model, TransformEngine):
        return [model]
    return list(find_compressed_layers(model))


def _find_masks(model: keras.Model) -> Iterator[tuple[Any, Any]]:
    for engine in _find_engines(model):
        for transform in engine.transforms:
            if isinstance(transform, Prune):
                yield from zip(transform.masks, transform.thresholds, strict=True)
