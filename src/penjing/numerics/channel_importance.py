"""What the units of a group of channels are worth: arrays -> one score for each.

A unit is what falls together: a channel in every weight that it appears in, a whole
attention head, a whole convolution group. Scores are computed once, before a cut, and
not in a training step: in NumPy and float64, the same on every backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Scores: TypeAlias = npt.NDArray[np.float64]

_TINY = np.finfo(np.float64).tiny


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class UnitSlices:
    """An array, cut along one axis into the slices of units.

    `units` are integers of shape `(values.shape[axis],)`: the unit that each position
    belongs to, -1 where it belongs to none.
    """

    values: npt.NDArray[Any]
    axis: int
    units: npt.NDArray[Any]

    def totals(self, size: int) -> Scores:
        """Sum of the values of each unit, of shape `(size,)`."""
        others = tuple(i for i in range(self.values.ndim) if i != self.axis)
        return self._by_unit(self.values.sum(axis=others, dtype=np.float64), size)

    def counts(self, size: int) -> Scores:
        """How many values each unit has, of shape `(size,)`."""
        length = self.values.shape[self.axis]
        each = self.values.size // length if length else 0
        return self._by_unit(np.full(length, float(each)), size)

    def squares(self) -> UnitSlices:
        """The same slices of the squared values."""
        squared = np.square(self.values, dtype=np.float64)
        return dataclasses.replace(self, values=squared)

    def _by_unit(self, positions: npt.NDArray[Any], size: int) -> Scores:
        inside = self.units >= 0
        return np.bincount(
            self.units[inside], weights=positions[inside], minlength=size
        ).astype(np.float64)


def l2_norms(slices: Iterable[UnitSlices], size: int) -> Scores:
    """Norm of each of `size` units over all its slices of a group's weights, `(size,)`.

    Reference:
        Li et al., 2016, https://arxiv.org/abs/1608.08710, for the norm of a filter;
        Fang et al., 2023, https://arxiv.org/abs/2301.12900, for that of a group.
    """
    return np.sqrt(_summed([part.squares().totals(size) for part in slices], size))


def root_mean_squares(slices: Sequence[UnitSlices], size: int) -> Scores:
    """Norm of each unit over the root of how many values it has; 0 for one without."""
    counts = _summed([part.counts(size) for part in slices], size)
    return l2_norms(slices, size) / np.sqrt(np.maximum(counts, 1.0))


def scale_magnitudes(slices: Iterable[UnitSlices], size: int) -> Scores:
    """Sum of the magnitudes of each unit's normalization scales (gamma), `(size,)`.

    Reference:
        Liu et al., 2017, https://arxiv.org/abs/1708.06519
    """
    parts = [
        dataclasses.replace(part, values=np.abs(part.values)).totals(size)
        for part in slices
    ]
    return _summed(parts, size)


def taylor_scores(changes: Sequence[npt.NDArray[Any]]) -> Scores:
    """Mean square of what the loss changes by, to first order, without each unit.

    For each batch of data `changes` has an array `(size,)`: the sum over the unit's
    weights of gradient times weight. The scores, `(size,)`, are changes of one loss, so
    those of different groups compare as they are.

    Reference:
        Molchanov et al., 2019, https://arxiv.org/abs/1906.10771
    """
    return np.mean(np.square(np.asarray(changes, np.float64)), axis=0)  # type: ignore[no-any-return]


def lamp_scores(squares: npt.NDArray[Any]) -> Scores:
    """The share of each unit's square among those that are not below it, `(size,)`.

    The score of weights (LAMP), for whole units, from their squared norms. The best
    unit of a group scores 1, so groups compare as they are, and none is emptied before
    all others are. Of equal units the first ranks higher.

    Reference:
        Lee et al., 2021, https://arxiv.org/abs/2010.07611
    """
    squares = np.asarray(squares, np.float64)
    squares = squares / max(float(squares.max(initial=0.0)), _TINY)
    order = np.argsort(-squares, kind="stable")
    scores = np.empty_like(squares)
    rivals = np.maximum(np.cumsum(squares[order]), _TINY)
    scores[order] = squares[order] / rivals
    return scores


def variances(
    count: int, totals: npt.NDArray[Any], squares: npt.NDArray[Any]
) -> Scores:
    """Variance of each unit's `count` values from their sums and sums of squares.

    A unit whose activation hardly varies can be replaced by a constant. All arrays are
    of shape `(size,)`.

    Reference:
        Polyak and Wolf, 2015, "Channel-level acceleration of deep face
        representations", https://doi.org/10.1109/ACCESS.2015.2494536
    """
    mean = np.asarray(totals, np.float64) / count
    return np.maximum(np.asarray(squares, np.float64) / count - mean**2, 0.0)


def random_scores(size: int, seed: Sequence[int]) -> Scores:
    """Uniform scores in [0, 1), `(size,)`, that do not look at the weights.

    The control in a comparison. The same integers as a seed give the same scores.
    """
    return np.random.default_rng(seed).random(size)


def relative_to_mean(scores: npt.NDArray[Any]) -> Scores:
    """Scores over the mean of their group, so that groups compare in one ranking.

    The mean and not the maximum: one outlier would push all others of its group to the
    end of the ranking. Scores are at least 0; they get a mean of 1, or are all 0.

    Reference:
        Fang et al., 2023, https://arxiv.org/abs/2301.12900
    """
    scores = np.asarray(scores, np.float64)
    return scores / max(float(scores.mean()), _TINY)


def _summed(parts: Sequence[Scores], size: int) -> Scores:
    return np.sum(parts, axis=0) if parts else np.zeros(size)
