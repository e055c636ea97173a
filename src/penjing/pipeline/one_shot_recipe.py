"""The recipe of weights that fall and are rounded at once, before any training."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import keras

from penjing.arguments import check_fraction
from penjing.errors import RecipeError
from penjing.numerics.grids import Grid
from penjing.one_shot.one_shot_pruning import prune_one_shot
from penjing.progress import Listener


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneShotRecipe:
    """One `penjing.prune_one_shot`: weights fall by what flows through the model.

    It needs no training, so it goes with `epochs` = 0; methods behind it train from
    what it leaves. It sees up to 4,096 of the training inputs, and no labels.

    Args:
        sparsity: Fraction of zeros in the weights that are pruned.
        levels: Values that the weights are rounded to in the same pass; None rounds
            none.
        granularity: One scale for a weight, or one for each of its channels.
        algorithm: How weights that stay make up for those that fall; see
            `penjing.prune_one_shot`, which calls it `method`.
        scope: How much each layer gives; see there.
        include: Patterns of layers to prune; None prunes all that can be.
        exclude: Patterns of layers to leave whole.
    """

    method: ClassVar[str] = "one_shot"

    sparsity: float = 0.5
    levels: int | None = None
    granularity: Literal["per_channel", "per_tensor"] = "per_channel"
    algorithm: Literal["sparsegpt", "wanda", "magnitude"] = "sparsegpt"
    scope: Literal["auto", "layer", "global"] = "auto"
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_fraction("sparsity", self.sparsity, below_one=True)
        if self.levels is not None and not 3 <= self.levels <= 255:
            raise RecipeError(f"`levels` must be from 3 to 255, got {self.levels}.")

    @property
    def grid(self) -> Grid | None:
        """What weights are rounded to."""
        if self.levels is None:
            return None
        bits = max((self.levels - 1).bit_length(), 2)
        return Grid(bits=bits, levels=self.levels, granularity=self.granularity)


def apply_one_shot(
    model: keras.Model, recipe: OneShotRecipe, data: Any, progress: Listener
) -> keras.Model:
    """A new model with fewer weights, by training data `(x, y, ...)` or a loader."""
    return prune_one_shot(
        model,
        data[0] if isinstance(data, (tuple, list)) else data,
        recipe.sparsity,
        method=recipe.algorithm,
        scope=recipe.scope,
        weights=recipe.grid,
        include=recipe.include,
        exclude=recipe.exclude,
        progress=progress,
    )
