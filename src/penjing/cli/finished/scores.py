"""Scores of a file by the metrics that a command names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def scores_by(
    metrics: Sequence[str] | None, file: Path, x: Any, y: Any, **options: Any
) -> dict[str, float]:
    """Score a file; each of the metrics is of every output. None: the model's own."""
    from penjing.measurement.accuracy import evaluate

    scores: dict[str, float] = {}
    names: Sequence[str | None] = metrics or [None]
    for name in names:
        scores |= evaluate(file, x, y, metrics=name, **options)
    return scores
