"""One sum of zeros, shared out among layers where they cost least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
_HALVINGS = 100


def share_out(
    sizes: Sequence[int],
    levels: Sequence[Sequence[float]],
    costs: Sequence[Sequence[float]],
    amount: float,
) -> list[float]:
    """The part that each layer gives of its size, at the least sum of costs.

    Between the levels that were measured costs are interpolated; where they do not rise
    faster and faster, by their lower convex hull. So the best parts are those at which
    one more costs the same everywhere.

    Args:
        sizes: Of each layer.
        levels: For each layer the parts that were measured, rising, from the least to
            the most that it can give.
        costs: What each of them costs.
        amount: The part of the sum of sizes to reach; where it lies outside of what
            the layers can give, the nearest is reached.

    Example:
        >>> share_out([10, 10], [[0, 0.5, 1]] * 2, [[0, 1, 4], [0, 2, 9]], 0.5)
        [0.5, 0.5]
    """
    hulls = [
        _hull(np.asarray(x, float), np.asarray(y, float))
        for x, y in zip(levels, costs, strict=True)
    ]
    pieces = sorted(
        (slope / max(size, 1), number, place)
        for number, ((x, y), size) in enumerate(zip(hulls, sizes, strict=True))
        for place, slope in enumerate(np.diff(y) / np.diff(x))
    )
    parts = [float(x[0]) for x, _ in hulls]
    left = amount * sum(sizes) - sum(p * s for p, s in zip(parts, sizes, strict=True))
    for (
        _,
        number,
        place,
    ) in pieces:  # slopes of one hull rise, so its pieces are in turn
        if left <= 0:
            break
        x, size = hulls[number][0], sizes[number]
        step = min(left, (x[place + 1] - x[place]) * size)
        parts[number] += step / size
        left -= step
    return [float(part) for part in parts]


def _hull(x: Array, y: Array) -> tuple[Array, Array]:
    """The lower convex hull of points in the order of `x`."""
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1 and _above(x, y, kept[-2], kept[-1], i):
            kept.pop()
        kept.append(i)
    return x[kept], y[kept]


def _above(x: Array, y: Array, first: int, middle: int, last: int) -> bool:
    rise = (y[middle] - y[first]) * (x[last] - x[first])
    return bool(rise >= (y[last] - y[first]) * (x[middle] - x[first]))
