"""Scores of a file by the metrics that a command names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def scores_by(
    metrics: Sequence[str] | None, file: Path, data: Any, **options: Any
) -> dict[str, float]:
    """Score a file on the test part of data, which is a `UserData`.

    Each of the metrics is of every output. None: the model's own. Data of other classes
    than the model's is a DataError.
    """
    from penjing.measurement.accuracy import evaluate
    from penjing.measurement.scoring import EachOutput

    if data.class_names is not None:
        _check_classes(file, data)
    chosen = EachOutput(metrics) if metrics else None
    x, y = data.test if isinstance(data.test, tuple) else (data.test, None)
    return evaluate(file, x, y, metrics=chosen, **options)


def _check_classes(file: Path, data: Any) -> None:
    from penjing.data.data_checks import output_shapes

    if file.suffix.lower() == ".tflite":
        from penjing.runtime.interpreter import LiteRTModel

        shapes: list[Any] = [spec.shape for spec in LiteRTModel(file).outputs]
    else:
        from penjing.models.model_files import load_keras_model

        shapes = output_shapes(load_keras_model(file))
    data.check_classes(shapes)
