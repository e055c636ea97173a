"""Sparsity patterns: which weights fall together.

A pattern sees a weight as a matrix of shape `(inputs, outputs)`; a convolution kernel
is seen with its height, width and input channels flattened into the rows, input
channels fastest. It turns the scores of that matrix into one score for each unit that
is kept or dropped as a whole, and a mask of units into a mask of weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Self

import keras
from keras import ops

from penjing.numerics import Tensor
from penjing.numerics.masks import expand_blocks, n_m_mask, pool_blocks


class Pattern:
    """Base of the sparsity patterns."""

    def obstacle(self, rows: int, columns: int, input_channels: int) -> str | None:
        """Why a matrix cannot take this pattern, or `None` where it can."""
        return None

    def for_channels(self, input_channels: int) -> Pattern:
        """The pattern as it is for weights of so many input channels."""
        return self

    def sparsity_reached(self, final_sparsity: float) -> float:
        """The sparsity at which the last mask holds what the pattern asks."""
        return final_sparsity

    def unit_scores(self, scores: Tensor) -> Tensor:
        """Matrix of scores -> scores of the units that fall together."""
        return scores

    def weight_mask(self, unit_mask: Tensor, shape: Sequence[int]) -> Tensor:
        """Mask of units -> mask of the matrix of the given shape."""
        return unit_mask

    def check_sparsity(self, final_sparsity: float) -> None:
        """Raise where this pattern cannot reach a sparsity."""

    def get_config(self) -> dict[str, Any]:
        """Fields as a JSON-ready dictionary."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Pattern from the dictionary that `get_config` gave."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True)
class Unstructured(Pattern):
    """Each weight stands alone: the most accurate and the smallest when compressed."""


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True)
class Block(Pattern):
    """Rectangles of the `(inputs, outputs)` matrix fall together.

    Args:
        rows: Inputs in a block.
        columns: Outputs in a block.
        pooling: Score of a block: `"mean"` or `"max"` of the scores in it.

    Example:
        >>> Block(4, 1).pooling
        'mean'
    """

    rows: int
    columns: int
    pooling: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        for name, value in (("rows", self.rows), ("columns", self.columns)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"`{name}` of a block must be an integer of at least 1, got "
                    f"{name}={value!r}."
                )
        if self.pooling not in ("mean", "max"):
            raise ValueError(
                f"`pooling` must be 'mean' or 'max', got pooling={self.pooling!r}."
            )

    def obstacle(self, rows: int, columns: int, input_channels: int) -> str | None:
        """Why a matrix cannot take blocks of this size."""
        if rows >= self.rows and columns >= self.columns:
            return None
        return (
            f"a matrix of {rows} x {columns} is smaller than a block of "
            f"{self.rows} x {self.columns}"
        )

    def unit_scores(self, scores: Tensor) -> Tensor:
        """Pooled score of each block."""
        return pool_blocks(scores, self.rows, self.columns, self.pooling)

    def weight_mask(self, unit_mask: Tensor, shape: Sequence[int]) -> Tensor:
        """Each block's value, spread over the block."""
        return expand_blocks(unit_mask, self.rows, self.columns, shape)


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True)
class NM(Pattern):
    """`n` kept of every `m` neighbouring inputs of an output.

    The schedule is obeyed on the way: weights outside the n:m choice leave in the
    order of their scores, until at sparsity `1 - n / m` only the choice is left.

    Args:
        n: Weights kept in each run.
        m: Length of a run along the input axis.

    Example:
        >>> NM(2, 4)
        NM(n=2, m=4)

    Reference:
        Zhou et al., 2021, https://arxiv.org/abs/2102.04010
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        valid = all(
            isinstance(value, int) and not isinstance(value, bool)
            for value in (self.n, self.m)
        )
        if not valid or not 0 < self.n < self.m:
            raise ValueError(
                f"n:m sparsity needs integers with 0 < n < m, got n={self.n!r}, "
                f"m={self.m!r}. NM(2, 4) keeps 2 of every 4."
            )

    def obstacle(self, rows: int, columns: int, input_channels: int) -> str | None:
        """Why the input axis cannot be cut into runs of m."""
        if input_channels % self.m == 0:
            return None
        return f"its {input_channels} input channels are no multiple of m={self.m}"

    def unit_scores(self, scores: Tensor) -> Tensor:
        """Scores, with the n of every m infinite so that they go last."""
        chosen = ops.transpose(n_m_mask(ops.transpose(scores), self.n, self.m))
        return ops.where(chosen, float("inf"), scores)

    def check_sparsity(self, final_sparsity: float) -> None:
        """The final sparsity must be the one that n and m spell."""
        if abs(final_sparsity - (1 - self.n / self.m)) > 1e-6:
            raise ValueError(
                f"NM({self.n}, {self.m}) ends at a sparsity of "
                f"{1 - self.n / self.m:g}, but the schedule's final sparsity is "
                f"{final_sparsity:g}. Give the schedule that sparsity, or choose "
                "another n and m."
            )


PATTERNS: dict[str, type[Pattern]] = {
    "unstructured": Unstructured,
    "block": Block,
    "nm": NM,
}
