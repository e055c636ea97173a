"""What a model costs once channels are cut, without building it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras
import numpy as np
import numpy.typing as npt

from penjing.channels.groups import GroupMember
from penjing.channels.tracing import ChannelGraph

Kept = Mapping[str, npt.NDArray[np.bool_]]

_INPUTS = ("input", "through")
_OUTPUTS = ("output", "through")


class CutCosts:
    """Sizes of all weights of a model after a cut.

    What is kept is given as group name -> `(size,)`, True where a unit stays.
    """

    def __init__(self, model: keras.Model, graph: ChannelGraph) -> None:
        self.shapes = {v.path: tuple(v.shape) for v in model.weights}
        self._members: dict[str, list[tuple[str, GroupMember]]] = {}
        for group in graph.groups:
            for member in group.members:
                if member.path in self.shapes:
                    row = self._members.setdefault(member.path, [])
                    row.append((group.name, member))

    def fractions(self, path: str, kept: Kept) -> dict[int, float]:
        """Fraction of each axis of a weight that stays; whole axes are left out."""
        gone: dict[int, int] = {}
        for name, member in self._members.get(path, ()):
            if name in kept:
                units = member.units[member.units >= 0]
                lost = int(np.count_nonzero(~kept[name][units]))
                gone[member.axis] = gone.get(member.axis, 0) + lost
        return {
            axis: 1.0 - lost / self.shapes[path][axis]
            for axis, lost in gone.items()
            if lost
        }

    def parameters(self, kept: Kept) -> float:
        """Numbers in all weights after the cut."""
        sizes = {path: math.prod(shape) for path, shape in self.shapes.items()}
        return self.weighted(sizes, kept)

    def weighted(self, amounts: Mapping[str, int], kept: Kept) -> float:
        """Sum after the cut of amounts, such as multiply-accumulates, by weight."""
        return sum(
            amount * math.prod(self.fractions(path, kept).values())
            for path, amount in amounts.items()
        )

    def input_and_output(self, kept: Kept) -> dict[str, tuple[float, float]]:
        """Path of each weight that is cut -> kept fractions of its inputs and outputs.

        A weight that handles each channel by itself has the same for both.
        """
        found = {}
        for path, members in self._members.items():
            fractions = self.fractions(path, kept)
            if not fractions:
                continue
            axes = {member.axis: member.role for _, member in members}
            found[path] = tuple(
                math.prod(fractions[a] for a in fractions if axes[a] in roles)
                for roles in (_INPUTS, _OUTPUTS)
            )
        return found  # type: ignore[return-value]
