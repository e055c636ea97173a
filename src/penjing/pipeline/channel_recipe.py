"""The recipe of channel pruning: cuts, and the training around them."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

from penjing.channels.target import (
    ChannelTarget,
    check_max_arena,
    check_weight_bits,
)
from penjing.errors import RecipeError
from penjing.pipeline.recipe import MAX_COUNT, MAX_EPOCHS, check_least, check_most

MAX_STEPS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelPruneRecipe:
    """Cuts by `penjing.prune_channels`, each followed by a recovery.

    It is the first method of its recipe: the others act on the smaller model, in the
    training of `TrainingRecipe` that comes last. Several cuts share the target evenly,
    by the same factor each. Recoveries train with the recipe's optimizer and batches,
    each from the peak of the learning rate down, on the plain model.

    Args:
        ratio: Fraction of the channels that go; see `penjing.prune_channels`. Exactly
            one of it, `macs`, `parameters`, `flash` and `latency` is given.
        macs: Multiply-accumulates that stay, a fraction or a number.
        parameters: Parameters that stay, a fraction or a number.
        flash: Estimated bytes of the finished int8 file that stay, likewise.
        weight_bits: Bits that a number of a weight will take in it.
        latency: Time that stays, a fraction or milliseconds such as "0.5 ms".
        max_arena: In addition to the target, the most RAM that the finished int8 file
            may take on a microcontroller, estimated: bytes, or a fraction, up to 1.0,
            of what the model's own plain one takes; None: as many as it takes.
        importance: Which channels stay.
        scope: `"global"` or `"layer"`.
        round_to: Channels that stay are a multiple of it.
        min_channels: Channels that stay in each group at least.
        include: Patterns of layers to cut; None cuts all that can be.
        exclude: Patterns of layers to leave whole.
        steps: Number of cuts.
        epochs_before: Epochs before the first cut.
        recovery_epochs: Epochs after each cut, the last one too.
        group_lasso: Strength of `penjing.GroupLasso` before the last cut.
        learning_rate: Peak of the rate in these epochs; None takes the recipe's.
        distillation: Weight in [0, 1) of the original model's outputs in the loss of
            the recoveries; 0 trains on the labels alone.
        temperature: Softens the logits that are distilled.
        batch_norm_batches: Batches on which batch normalization is estimated anew after
            each cut, where the model has any; 0 leaves it as it is.
        best_effort: Where a target, not of `latency`, is beyond what can be cut:
            whether a cut then takes the same share of what can be cut (for
            `max_arena`: as much as can be cut) and warns of it, as in the recipes that
            come with penjing, or is an error.
    """

    method: ClassVar[str] = "prune_channels"

    ratio: float | None = None
    macs: float | int | None = None
    parameters: float | int | None = None
    flash: float | int | None = None
    weight_bits: float = 8.0
    latency: float | str | None = None
    max_arena: float | int | None = None
    importance: Literal[
        "l2", "batch_norm", "taylor", "lamp", "activation_variance", "random"
    ] = "l2"
    scope: Literal["layer", "global"] = "global"
    round_to: int = 8
    min_channels: int = 1
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    steps: int = 1
    epochs_before: int = 0
    recovery_epochs: int = 0
    group_lasso: float = 0.0
    learning_rate: float | None = None
    distillation: float = 0.0
    temperature: float = 3.0
    batch_norm_batches: int = 50
    best_effort: bool = False

    def __post_init__(self) -> None:
        try:
            target = self.target
            check_weight_bits(self.weight_bits)
            check_max_arena(self.max_arena)
        except ValueError as error:
            raise RecipeError(str(error)) from error
        check_least(self, round_to=1, min_channels=1, steps=1, epochs_before=0)
        check_least(self, recovery_epochs=0, batch_norm_batches=0)
        check_most(self, epochs_before=MAX_EPOCHS, recovery_epochs=MAX_EPOCHS)
        check_most(self, steps=MAX_STEPS, batch_norm_batches=MAX_COUNT)
        if self.steps > 1 and isinstance(target.value, (int, str)):
            raise RecipeError(
                f"`steps` = {self.steps} needs a target in fractions, which are shared "
                f"among the cuts; got {target.kind} = {target.value!r}."
            )
        if self.best_effort and target.kind == "latency":
            raise RecipeError(
                "`best_effort` is for targets that are known before a cut, not for "
                f"`latency` = {target.value!r}, which is measured. Leave it out."
            )
        self._check_training()

    def _check_training(self) -> None:
        trained = self.epochs_before + self.recovery_epochs * (self.steps - 1)
        if not 0.0 <= self.group_lasso < math.inf:
            raise RecipeError(
                f"`group_lasso` must be at least 0, got {self.group_lasso}."
            )
        if self.group_lasso and not trained:
            raise RecipeError(
                "`group_lasso` acts in training before the last cut: set "
                "`epochs_before`, or `recovery_epochs` and several `steps`."
            )
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise RecipeError(
                f"`learning_rate` must be a positive number, got {self.learning_rate}."
            )
        if not 0.0 <= self.distillation < 1.0 or not self.temperature > 0.0:
            raise RecipeError(
                "`distillation` must be in [0, 1) and `temperature` above 0, got "
                f"{self.distillation} and {self.temperature}."
            )
        if self.distillation and not self.recovery_epochs:
            raise RecipeError(
                "`distillation` acts in the recovery: set `recovery_epochs`."
            )

    @property
    def target(self) -> ChannelTarget:
        """What all cuts together are to reach."""
        return ChannelTarget(
            ratio=self.ratio,
            macs=self.macs,
            parameters=self.parameters,
            flash=self.flash,
            latency=self.latency,
        )

    def target_of_a_step(self) -> dict[str, float | int | str]:
        """What one cut is to reach, as `prune_channels` takes it.

        Example:
            >>> ChannelPruneRecipe(macs=0.25, steps=2).target_of_a_step()
            {'macs': 0.5}
        """
        kind, value = self.target.kind, self.target.value
        if self.steps == 1:
            return {kind: value}
        kept = 1.0 - value if kind == "ratio" else value
        part = kept ** (1.0 / self.steps)
        return {kind: 1.0 - part if kind == "ratio" else part}
