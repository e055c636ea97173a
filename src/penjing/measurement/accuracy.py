"""The same metrics for a Keras model, its file and its `.tflite` file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.data.batches import leaves, to_batches
from penjing.data.data_checks import fits
from penjing.errors import DataError, FileFormatError
from penjing.files import check_file
from penjing.measurement.scoring import Scorer
from penjing.models.model_files import load_keras_model

_SUFFIXES = (".keras", ".h5", ".hdf5", ".tflite")

Predict = Callable[[Any], Any]


def evaluate(
    model_or_path: keras.Model | str | os.PathLike[str],
    x: Any,
    y: Any = None,
    *,
    metrics: Any = None,
    batch_size: int = 128,
    verbose: int = 0,
    output_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Measure how well a model predicts, in memory or in a file.

    Whatever the model is, its predictions go through the same Keras metrics, resolved
    by Keras itself as `compile(metrics=...)` does: "accuracy" is the binary, sparse
    or categorical one by the shapes of labels and predictions. A model's own
    `test_step` is not called, and the model is not compiled anew.

    Args:
        model_or_path: A Keras model, compressed or plain, or the path of a `.keras`,
            `.h5` or `.tflite` file.
        x: Array of shape `(samples, ...)`; for several inputs a list or dict of them;
            or a `tf.data.Dataset`, PyTorch `DataLoader` or `keras.utils.PyDataset`
            that gives `(x, y)` or `(x, y, sample_weight)`.
        y: Labels, the same for several outputs; None where `x` is a loader.
        metrics: Names, functions or objects as in `compile(metrics=...)`, or one of
            them, which then holds for every output. By default those that the model
            was compiled with, its loss where it has none, and "accuracy" for a model
            that is not compiled and for a `.tflite` file. Objects are reset.
        batch_size: Samples run at once; a loader has its own.
        verbose: 1 shows the progress.
        output_names: What to call several outputs in labels, metrics and results. By
            default as the model calls them, or as the `.tflite` file does.

    Returns:
        Value of each metric by the name that Keras gives it.

    Raises:
        DataError: If the data is empty, its lengths differ, or it does not fit the
            model or the metrics.
        FileFormatError: If the file is missing, corrupt or of an unknown type.
        UnsupportedModelError: If the file uses classes that are not registered.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
        >>> evaluate(model, np.eye(2), np.array([0, 0]))
        {'accuracy': 0.5}
    """
    model, predict, names = open_model(model_or_path, batch_size)
    batches = to_batches(x, y, batch_size)
    names = names if output_names is None else list(output_names)
    scorer = Scorer.for_model(model, metrics, names)
    with _progress(batches.count, verbose, with_rich=model is None) as advance:
        for inputs, labels, weights in batches.stream:
            scorer.update(labels, predict(inputs), weights)
            advance()
    return scorer.result()


def open_model(
    model_or_path: keras.Model | str | os.PathLike[str], batch_size: int
) -> tuple[keras.Model | None, Predict, list[str] | None]:
    """Give the model of a Keras file, what predicts, and the names of the outputs."""
    file = None
    if isinstance(model_or_path, keras.Model):
        model = model_or_path
    elif not isinstance(model_or_path, (str, os.PathLike)):
        raise FileFormatError(
            "Expected a Keras model or the path of a file, got a "
            f"{type(model_or_path).__name__}. Allowed files: {', '.join(_SUFFIXES)}."
        )
    elif (suffix := Path(model_or_path).suffix.lower()) not in _SUFFIXES:
        raise FileFormatError(
            f"{model_or_path} is of an unknown type. Allowed: {', '.join(_SUFFIXES)}."
        )
    elif suffix == ".tflite":
        return None, *_litert_predict(check_file(model_or_path), batch_size)
    else:
        file = check_file(model_or_path)
        model = load_keras_model(file)
    return model, _keras_predict(model, file), getattr(model, "output_names", None)


def _keras_predict(model: keras.Model, file: Path | None) -> Predict:
    """What predicts; errors of a model in memory, whose code is the user's, stay."""

    def predict(inputs: Any) -> Any:
        try:
            return model.predict_on_batch(inputs)
        except Exception as error:
            expected = [tuple(t.shape) for t in getattr(model, "inputs", None) or []]
            given = [tuple(array.shape) for array in leaves(inputs)]
            fit = len(given) == len(expected) and all(map(fits, given, expected))
            if file is not None and (fit or not expected):
                words = " ".join(str(error).split())[:500].rstrip(".")
                raise DataError(
                    f"The model in {file} fails on inputs of shape {_shown(given)}: "
                    f"{type(error).__name__}: {words}. The file is damaged, or its "
                    "model takes other values."
                ) from error
            if fit or not expected:
                raise
            raise DataError(
                f"The model {model.name!r} takes inputs of shape {_shown(expected)}, "
                f"got {_shown(given)}. Reshape the data or choose the right model."
            ) from error

    return predict


def _litert_predict(path: Path, batch_size: int) -> tuple[Predict, list[str]]:
    from penjing.runtime.interpreter import LiteRTModel

    model = LiteRTModel(path)
    ranks = [len(spec.shape) for spec in model.inputs]

    def predict(inputs: Any) -> Any:
        size = max(batch_size, len(leaves(inputs)[0]))
        if len(ranks) == 1 and len(leaves(inputs)) == 1:
            inputs = _with_rank(leaves(inputs)[0], ranks[0])
        return model.predict(inputs, size)

    return predict, [spec.name for spec in model.outputs]


def _with_rank(array: Any, rank: int) -> Any:
    """Add or drop a last axis of 1, as Keras models do by themselves."""
    if array.ndim == rank - 1:
        return array[..., None]
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        return array[..., 0]
    return array


def _shown(shapes: list[Any]) -> str:
    return " and ".join(
        "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        for shape in shapes
    )


@contextlib.contextmanager
def _progress(
    count: int | None, verbose: int, with_rich: bool
) -> Iterator[Callable[[], None]]:
    if not verbose:
        yield lambda: None
        return
    if not with_rich:
        bar = keras.utils.Progbar(count)
        yield lambda: bar.add(1)
        return
    from rich.progress import Progress

    with Progress() as progress:
        task = progress.add_task("Evaluating", total=count)
        yield lambda: progress.advance(task)
