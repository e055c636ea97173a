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
    from penjing.measurement.scoring import EachOutput

    chosen = EachOutput(metrics) if metrics else None
    return evaluate(file, x, y, metrics=chosen, **options)
