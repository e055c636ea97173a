"""The recipe of weights that fall and are rounded at once, before any training."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import keras

from penjing.arguments import check_fraction
from penjing.errors import RecipeError
from penjing.numerics.grids import Grid
from penjing.one_shot.layer_error_report import bits_of_mean
from penjing.one_shot.layer_errors import measure_layer_errors
from penjing.one_shot.one_shot_pruning import prune_one_shot
from penjing.progress import Listener

_BITS = (2, 3, 4, 5, 6, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneShotRecipe:
    """One `penjing.prune_one_shot`: weights fall by what flows through the model.

    It needs no training, so it goes with `epochs` = 0; methods behind it train from
    what it leaves. It sees up to 4,096 of the training inputs, and no labels.

    Args:
        sparsity: Fraction of zeros in the weights that are pruned.
        levels: Values that the weights are rounded to in the same pass; None rounds
            none.
        mean_bits: In place of `levels`: how many bits a weight has in the mean, 2 to 8,
            of which each layer gets more or fewer as its errors cost at the model's
            outputs.
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
    mean_bits: float | None = None
    granularity: Literal["per_channel", "per_tensor"] = "per_channel"
    algorithm: Literal["sparsegpt", "wanda", "magnitude"] = "sparsegpt"
    scope: Literal["auto", "layer", "global"] = "auto"
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_fraction("sparsity", self.sparsity, below_one=True)
        if self.levels is not None and not 3 <= self.levels <= 255:
            raise RecipeError(f"`levels` must be from 3 to 255, got {self.levels}.")
        if self.mean_bits is not None and not 2 <= self.mean_bits <= 8:
            raise RecipeError(f"`mean_bits` must be from 2 to 8, got {self.mean_bits}.")
        if self.mean_bits is not None and self.levels is not None:
            raise RecipeError(
                "`levels` are the same for all layers, and `mean_bits` are chosen by "
                f"layer: give one of them, got {self.levels} and {self.mean_bits}."
            )

    @property
    def grid(self) -> Grid | None:
        """What weights are rounded to, where that is no layer's own choice."""
        if self.mean_bits is not None:
            return Grid(bits=8, granularity=self.granularity)
        if self.levels is None:
            return None
        bits = max((self.levels - 1).bit_length(), 2)
        return Grid(bits=bits, levels=self.levels, granularity=self.granularity)


def apply_one_shot(
    model: keras.Model, recipe: OneShotRecipe, data: Any, progress: Listener
) -> keras.Model:
    """A new model with fewer weights, by training data `(x, y, ...)` or a loader."""
    inputs = data[0] if isinstance(data, (tuple, list)) else data
    chosen: dict[str, Any] = {"include": recipe.include, "exclude": recipe.exclude}
    bits = None
    if recipe.mean_bits is not None:
        errors = measure_layer_errors(
            model,
            inputs,
            levels=_BITS,
            granularity=recipe.granularity,
            spare=True,
            progress=progress,
            **chosen,
        )
        bits = bits_of_mean(errors, recipe.mean_bits)
    return prune_one_shot(
        model,
        inputs,
        recipe.sparsity,
        method=recipe.algorithm,
        scope=recipe.scope,
        weights=recipe.grid,
        bits_by_layer=bits,
        progress=progress,
        **chosen,
    )
