"""What is known of a tensor and its twin after any number of batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from penjing.engine.calibration import sampled

EQUAL = 160.0
"""Decibels that stand for no difference; float32 rounds at about 140."""
PERCENTILES = (1.0, 5.0, 50.0, 95.0, 99.0)
_SAMPLED = 5_000  # values of a tensor that are kept of each batch

Array = np.ndarray[Any, Any]


class NoiseSums:
    """What is known of two tensors after some batches, for each channel of one."""

    def __init__(self, *, by_channel: bool) -> None:
        self.count = 0
        self._by_channel = by_channel
        self._of: dict[str, Array] = {}
        self._ends = [np.inf, -np.inf]
        self._kept: list[Array] = []

    def add(self, actual: Array, expected: Array) -> None:
        """Add the values of a batch; those of other shapes do not count."""
        if actual.shape != expected.shape or expected.dtype.kind not in "fiu":
            return
        several = self._by_channel and expected.ndim > 1
        rows = (-1, expected.shape[-1] if several else 1)
        y, x = (np.asarray(v, "float64").reshape(rows) for v in (actual, expected))
        if not x.size or not np.isfinite(x).all():
            return
        self.count += len(x)
        parts = {"x": x, "xx": x * x, "ee": (x - y) ** 2, "xy": x * y, "yy": y * y}
        for name, values in parts.items():
            self._of[name] = self._of.get(name, 0.0) + values.sum(axis=0)
        self._ends = [min(self._ends[0], x.min()), max(self._ends[1], x.max())]
        self._kept.append(sampled(x.ravel(), _SAMPLED))

    @property
    def noise(self) -> float:
        """Mean square of the difference over the variance, in the middle channel.

        A channel far out has a large variance, and the scale of the whole tensor: what
        the others lose would not be seen in the sum.
        """
        square = self._of["xx"] / self.count
        variance = square - (self._of["x"] / self.count) ** 2
        varying = variance > 1e-9 * square
        if not varying.any():
            variance, varying = square, square > 0
        if not np.isfinite(self._of["ee"]).all():
            return float("inf")
        if not varying.any():
            return float("inf") if self._of["ee"].any() else 0.0
        noises = self._of["ee"][varying] / self.count / variance[varying]
        return float(np.median(noises))

    def row(self) -> dict[str, Any]:
        """The fields of a row that follow from values."""
        noise = self.noise
        decibels = EQUAL if not noise else -10 * np.log10(noise)
        whole = {name: float(values.sum()) for name, values in self._of.items()}
        sizes = np.sqrt(whole["xx"] * whole["yy"])
        cosine = whole["xy"] / sizes if sizes else float(not whole["ee"])
        percentiles = np.percentile(np.concatenate(self._kept), PERCENTILES)
        return {
            "decibels": float(np.clip(np.nan_to_num(decibels), -EQUAL, EQUAL)),
            "cosine": float(np.clip(np.nan_to_num(cosine), -1, 1)),
            "minimum": float(self._ends[0]),
            "maximum": float(self._ends[1]),
            "percentiles": tuple(map(float, percentiles)),
        }
