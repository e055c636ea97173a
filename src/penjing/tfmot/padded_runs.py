"""Zeros in every run of neighbouring inputs, where the runs need not fit."""

from __future__ import annotations

import dataclasses
from typing import Self

import keras
from keras import ops

from penjing.numerics import Tensor
from penjing.numerics.masks import n_m_mask
from penjing.numerics.patterns import NM


@keras.saving.register_keras_serializable("penjing.tfmot")
@dataclasses.dataclass(frozen=True)
class PaddedNM(NM):
    """`NM` in which the last run of an axis is filled up with zeros, as in tfmot.

    They are the first to fall: where 2 of every 4 do, a rest of 2 inputs stays whole.

    Args:
        channels: Inputs along which runs are counted; 0: not known yet.
    """

    channels: int = 0

    def obstacle(self, rows: int, columns: int, input_channels: int) -> str | None:
        """Runs fit every axis that is longer than what stays of one."""
        if self.for_channels(input_channels).sparsity_reached(0.0) > 0:
            return None
        return (
            f"its {input_channels} input channels are no more than the {self.n} that "
            f"stay of every {self.m}"
        )

    def for_channels(self, input_channels: int) -> Self:
        """The pattern with the length of the axis."""
        return dataclasses.replace(self, channels=input_channels)

    def sparsity_reached(self, final_sparsity: float) -> float:
        """The zeros among the inputs; a rest has fewer."""
        runs, rest = divmod(self.channels, self.m)
        return (runs * (self.m - self.n) + max(rest - self.n, 0)) / self.channels

    def unit_scores(self, scores: Tensor) -> Tensor:
        """Scores, with the n of every m infinite so that they go last."""
        rest = -self.channels % self.m
        rows = ops.reshape(ops.transpose(scores), (-1, self.channels))
        chosen = n_m_mask(ops.pad(rows, ((0, 0), (0, rest))), self.n, self.m)
        shape = (scores.shape[1], scores.shape[0])
        chosen = ops.transpose(ops.reshape(chosen[:, : self.channels], shape))
        return ops.where(chosen, float("inf"), scores)
