"""One sum of zeros, shared out among layers where they cost least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
_UNITS = 4096  # into which a budget is cut


def share_out(
    sizes: Sequence[int],
    levels: Sequence[Sequence[float] | Array],
    costs: Sequence[Sequence[float] | Array],
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
    # Slopes of one hull rise, so its pieces come in turn.
    for _, number, place in pieces:
        if left <= 0:
            break
        x, size = hulls[number][0], sizes[number]
        step = min(left, (x[place + 1] - x[place]) * size)
        parts[number] += step / size
        left -= step
    return [float(part) for part in parts]


def cheapest_options(
    amounts: Sequence[Sequence[int]], costs: Sequence[Sequence[float]], budget: int
) -> list[int] | None:
    """One option for each layer: the least sum of costs within a sum of amounts.

    `amounts` and `costs` have those of each layer's options, which need not be as many.
    Found by dynamic programming over the budget, cut into 4,096 parts; amounts are
    rounded up, so that it is never exceeded. None where even the smallest do not fit.

    Example:
        >>> cheapest_options([[4, 8], [4, 8]], [[9.0, 1.0], [2.0, 1.0]], 12)
        [1, 0]
    """
    least = sum(min(own) for own in amounts)
    if least > budget:
        return None
    spare = budget - least
    unit = max(spare / _UNITS, 1.0)
    room = int(spare / unit)
    best = np.zeros(room + 1)
    taken: list[Array] = []
    for own, prices in zip(amounts, costs, strict=True):
        steps = [int(np.ceil((amount - min(own)) / unit)) for amount in own]
        every = np.full((len(own), room + 1), np.inf)
        for option, (step, price) in enumerate(zip(steps, prices, strict=True)):
            if step <= room:
                every[option, step:] = best[: room + 1 - step] + price
        taken.append(every.argmin(axis=0))
        best = every.min(axis=0)
    place, found = room, []
    for own, choice in zip(reversed(amounts), reversed(taken), strict=True):
        option = int(choice[place])
        place -= int(np.ceil((own[option] - min(own)) / unit))
        found.append(option)
    return found[::-1]


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
