"""Callbacks with the names of tfmot."""

from __future__ import annotations

import inspect
import itertools
import os
import struct
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from keras import ops

from penjing.engine.engine import TransformEngine
from penjing.engine.stripping import find_compressed_layers
from penjing.engine.training_guard import unreached
from penjing.engine.transforms.pruning_transform import Prune
from penjing.errors import CompressionWarning


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
            last = engine.count_steps() + steps * (epochs - epoch)
            late = unreached(engine, last, f"Training ends at step {last}")
            if late and engine._selected():
                warnings.warn(late[0], CompressionWarning, stacklevel=2)
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


_CASTAGNOLI = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_counter = itertools.count()


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _crc_table()


class EventFile:
    """An append-only file of scalars, one in each folder and run.

    It needs neither TensorFlow nor TensorBoard: an event is a small protocol buffer
    in a record that carries its length and two CRC-32C checksums.

    Args:
        folder: Folder for the file; made if it is missing.

    Reference:
        The comments of `event.proto` and `record_writer.cc` in
        https://github.com/tensorflow/tensorflow
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        stamp = f"{int(time.time()):010d}.{os.getpid()}.{next(_counter)}"
        self.path = Path(folder) / f"events.out.tfevents.{stamp}.penjing"
        self._append(_event(_text(3, b"brain.Event:2")))

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append one event: values by their tags, and their place on the x axis."""
        summary = b"".join(
            _text(1, _text(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in values.items()
        )
        self._append(_event(b"\x10" + _varint(step) + _text(5, summary)))

    def _append(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        with self.path.open("ab") as file:
            file.write(length + _masked_crc(length) + data + _masked_crc(data))


def _event(fields: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", time.time()) + fields


def _text(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _masked_crc(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + _MASK_DELTA) & 0xFFFFFFFF)
