"""What a file of the gallery gives, and how far that agrees with the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def outputs_of(path: Path, x: np.ndarray) -> Any:
    """Outputs of a `.tflite` file, in real numbers; a list where there are several."""
    import penjing

    return penjing.LiteRTModel(path).predict(x)


def agreement(teacher: np.ndarray, student: np.ndarray) -> float:
    """Share of samples of which both say the same class."""
    same = teacher.argmax(-1) == student.argmax(-1)
    return round(float(same.mean()), 4)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Mean cosine of outputs, sample by sample."""
    a, b = (
        values.reshape(len(values), -1).astype("float64") for values in (one, other)
    )
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return round(float(np.mean((a * b).sum(1) / np.maximum(lengths, 1e-12))), 4)


def spread_error(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square of the difference, over the spread of the first."""
    error = np.sqrt(np.mean((one - other).astype("float64") ** 2))
    return round(float(error / one.std()), 4)
