"""Values -> the grid that they lie on, found without being told.

Weights that were trained on a grid are `scale * integer`, rounded to float32 once or
twice. Few magnitudes come from so coarse a grid by chance, and where they do, nothing
is lost: the integers and the scale give the same values again.
"""

from __future__ import annotations

import numpy as np

HIGHEST = 127
_ROUNDING = 2.0**-21  # relative; float32 loses 2**-24 each time it rounds
_SAMPLE = 4096


def find_scale(values: np.ndarray, highest: int = HIGHEST) -> float | None:
    """The coarsest step of which all values are multiples, none of more than `highest`.

    Gives a float32 number: 0 where all values are zero; `None` where they lie on no
    such grid. Values are float32, in any shape.

    Example:
        >>> find_scale(np.float32([0.5, -1.5, 0.0, 3.5]))
        0.5
        >>> find_scale(np.float32([0.5, -1.5, 0.0, 3.1415])) is None
        True
    """
    values = np.abs(np.ravel(values))
    if not np.isfinite(values).all():
        return None
    if values.size > 2 * _SAMPLE and _is_crowded(values[:_SAMPLE], highest):
        return None  # without sorting all of it
    magnitudes = np.unique(values[values > 0])
    if magnitudes.size == 0:
        return 0.0
    if magnitudes.size > highest:
        return None
    exact = magnitudes.astype("float64")
    counts = np.arange(1, highest + 1)[:, None]
    steps = exact / exact[-1] * counts
    integers = np.rint(steps)
    fits = (np.abs(steps - integers) <= counts * _ROUNDING) & (integers > 0)
    found = np.flatnonzero(fits.all(axis=1))
    if found.size == 0:
        return None
    return _refined(magnitudes, integers[found[0]])


def find_scales(
    values: np.ndarray, channel_axis: int, highest: int = HIGHEST
) -> np.ndarray | None:
    """The scale of each channel, `(channels,)` in float32; as `find_scale` finds one.

    `None` where a channel lies on no grid. Channels of zeros have the scale of the one
    before.
    """
    channels = np.moveaxis(values, channel_axis, 0).reshape(
        values.shape[channel_axis], -1
    )
    scales = []
    for channel in channels:
        scale = find_scale(channel, highest)
        if scale is None:
            return None
        scales.append(scale)
    used = [scale for scale in scales if scale > 0]
    last = used[0] if used else 1.0
    for i, scale in enumerate(scales):
        last = scales[i] = scale or last
    return np.array(scales, "float32")


def shares_values(values: np.ndarray, most: int = 256) -> bool:
    """Whether an array has few distinct values for its size, as a clustered one has.

    That is at most `most`, each there four times on average.
    """
    values = np.ravel(values)
    if values.size > 2 * _SAMPLE and np.unique(values[:_SAMPLE]).size > most:
        return False
    return np.unique(values).size <= min(most, values.size // 4)


def _is_crowded(values: np.ndarray, highest: int) -> bool:
    return int(np.unique(values[values > 0]).size) > highest


def _refined(magnitudes: np.ndarray, integers: np.ndarray) -> float:
    """The float32 scale near the best fit that gives the most values bit by bit."""
    fit = (magnitudes * integers).sum() / np.square(integers).sum()
    candidates = [np.float32(fit)]
    for direction in (np.float32(0), np.float32(np.inf)):
        scale = candidates[0]
        for _ in range(4):
            scale = np.nextafter(scale, direction)
            candidates.append(scale)
    exact = [
        int((integers.astype("float32") * scale == magnitudes).sum())
        for scale in candidates
    ]
    return float(candidates[int(np.argmax(exact))])
