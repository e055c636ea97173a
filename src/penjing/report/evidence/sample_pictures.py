"""One sample as people see it: a picture, a line, or numbers in a row."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from penjing.report.drawings import png_of
from penjing.report.evidence.stored_weights import Array

_SIDE = 48
_LEAST_SIDE = 5
# Two axes that differ more are no picture, but a series of several features.
_LONGEST = 2
_POINTS = 120
_NUMBERS = 24
_LEAST_POINTS = 16


def describe_input(x: Array, place: int) -> dict[str, Any]:
    """The field of an `ExampleRow` that shows an input, as a keyword argument."""
    sample = x[place]
    if (image := _as_image(sample)) is not None:
        pixels = _as_bytes(image, x)
        return {"picture": base64.b64encode(png_of(pixels)).decode()}
    if (series := _as_series(sample)) is not None:
        return {"series": tuple(float(f"{value:.4g}") for value in series)}
    flat = sample.reshape(-1)
    shown = " ".join(f"{value:g}" for value in flat[:_NUMBERS].tolist())
    return {"text": shown + (" ..." if flat.size > _NUMBERS else "")}


def _as_image(sample: Array) -> Array | None:
    """A sample with height, width and channels, made smaller; None where it is none."""
    if sample.ndim == 2 and max(sample.shape) <= _LONGEST * min(sample.shape):
        sample = sample[..., None]
    if sample.ndim != 3:
        return None
    if sample.shape[2] > 4 and sample.shape[0] in (1, 3):
        sample = sample.transpose(1, 2, 0)
    height, width, channels = sample.shape
    if channels not in (1, 3) or min(height, width) < _LEAST_SIDE:
        return None
    step = -(-max(height, width) // _SIDE)
    return sample[::step, ::step]


def _as_bytes(image: Array, x: Array) -> Array:
    """Pixels from 0 to 255, by what the values of all samples go from and to."""
    values = image.astype("f4")
    low, high = float(x[:256].min()), float(x[:256].max())
    if low >= 0:
        low, high = 0.0, 1.0 if high <= 1 else max(high, 255.0) if high <= 255 else high
    scaled = 255 * (values - low) / ((high - low) or 1.0)
    return np.clip(np.nan_to_num(scaled), 0, 255).round().astype(np.uint8)


def _as_series(sample: Array) -> Array | None:
    """The first feature of a sample that has a length; None where it is none."""
    if sample.dtype.kind != "f" or sample.ndim not in (1, 2):
        return None
    series = sample if sample.ndim == 1 else sample[:, 0]
    if len(series) < _LEAST_POINTS:
        return None
    step = -(-len(series) // _POINTS)
    return np.asarray(series[::step])
