"""Units of channels while a graph is traced: who falls together, and who stays."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """Where the channels of a tensor lie: on the axis, from 0.

    Each position on it has an id, `(shape[axis],)`; those of one id fall together.
    """

    axis: int
    ids: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Whole:
    """A tensor that loses no channels, and why, as the end of "it stays whole: ..."."""

    reason: str


Layout: TypeAlias = Channels | Whole


class UnitTable:
    """Ids of channels, ties between them, and those that must stay."""

    def __init__(self) -> None:
        self.count = 0
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        self._pins: list[tuple[np.ndarray, str]] = []

    def new(self, size: int) -> np.ndarray:
        """Ids that no tensor has yet."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """Make the ids at the same places of two arrays, broadcast, fall together."""
        if first is not second:
            pair = np.broadcast_arrays(first, second)
            self._ties.append((pair[0].ravel(), pair[1].ravel()))

    def pin(self, ids: np.ndarray, reason: str) -> None:
        """Let ids, and all that are tied to them, stay; see `Whole` for the reason."""
        if len(ids):
            self._pins.append((ids, reason))

    def labels(self) -> np.ndarray:
        """One number for each id: the lowest id that it falls together with."""
        return connect(self.count, self._ties)

    def reasons(self, labels: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """For each id an index into the reasons, -1 where it can go; the reasons."""
        found = np.full(self.count, -1)
        for number, (ids, _) in reversed(list(enumerate(self._pins))):
            found[labels[ids]] = number
        return found[labels], [reason for _, reason in self._pins]


def connect(count: int, ties: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The lowest node that each of `count` nodes is connected with, `(count,)`.

    Nodes count from 0; ties join arrays of them place by place. Each round hooks the
    label of either end to the lower one and shortens the paths of labels, so the number
    of rounds grows with the logarithm of the longest chain.
    """
    labels = np.arange(count)
    if not ties:
        return labels
    first, second = (np.concatenate(ends) for ends in zip(*ties, strict=True))
    while True:
        one, other = labels[first], labels[second]
        if np.array_equal(one, other):
            return labels
        lower = np.minimum(one, other)
        np.minimum.at(labels, one, lower)
        np.minimum.at(labels, other, lower)
        while not np.array_equal(jumped := labels[labels], labels):
            labels = jumped
