"""Where along a line something turns from too much to not enough, in few trials."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

_FIRST_STEP = 3.0  # factor between trials until one lies on the other side
_FARTHEST = 0.85  # of an interval, that one trial can take away


def next_share(
    found: Mapping[float, float],
    pending: Iterable[float] = (),
    *,
    start: float,
    least: float,
    most: float,
    precision: float = 1.25,
) -> float | None:
    """Choose the next share to try, so that the place where a sign turns is found.

    It is regula falsi on the logarithm of the share, with steps that are kept from the
    ends of the interval: single values are noisy.

    Args:
        found: Share -> value, which falls as the share rises: positive where the share
            is too small.
        pending: Shares that are being tried.
        start: The first to try.
        least: The smallest share.
        most: The largest.
        precision: Factor between two shares of unlike sign that is near enough.

    Returns:
        The share, or None where nothing is left to find, or what is pending must be
        known first.

    Example:
        >>> line = {"start": 0.1, "least": 0.01, "most": 0.8}
        >>> next_share({}, **line)
        0.1
        >>> round(next_share({0.1: -1.0, 0.02: 1.0}, **line), 4)
        0.0447
        >>> next_share({0.1: -1.0, 0.09: 1.0}, **line)
    """
    waiting = sorted(pending)
    if not found:
        return _beside(waiting, start, least, most)
    low = max((share for share, value in found.items() if value > 0), default=None)
    above = [s for s, value in found.items() if value <= 0 and s > (low or 0.0)]
    high = min(above, default=None)
    if high is None:
        return _outward(max(found), waiting, most, _FIRST_STEP)
    if low is None:
        return _outward(high, waiting, least, 1 / _FIRST_STEP)
    return _between(low, high, found, waiting, precision)


def _beside(
    waiting: list[float], start: float, least: float, most: float
) -> float | None:
    """The first share, or those around it where several can be tried at a time."""
    for power in (0, -1, 1, -2, 2):
        share = start * _FIRST_STEP**power
        if least <= share <= most and share not in waiting:
            return share
    return None


def _outward(
    share: float, waiting: list[float], end: float, factor: float
) -> float | None:
    """A step beyond all that was tried, or None at the end of the line."""
    edge = (max if factor > 1 else min)([share, *waiting])
    step = (min if factor > 1 else max)(edge * factor, end)
    return None if math.isclose(step, edge) else step


def _between(
    low: float,
    high: float,
    found: Mapping[float, float],
    waiting: list[float],
    precision: float,
) -> float | None:
    if high / low <= precision:
        return None
    within = [share for share in waiting if low < share < high]
    if within:
        ends = [low, *within, high]
        pairs = zip(ends, ends[1:], strict=False)
        a, b = max(pairs, key=lambda pair: pair[1] / pair[0])
        return math.sqrt(a * b) if b / a > precision else None
    above, below = found[low], -found[high]
    weight = above / (above + below) if math.isfinite(above) else _FARTHEST
    weight = min(max(weight, 1 - _FARTHEST), _FARTHEST)
    return low * math.pow(high / low, weight)
