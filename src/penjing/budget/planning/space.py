"""What a search can try: one point of its space is one recipe.

A family says which methods act together; its strength is one number, the share of the
weights (or of the multiply-accumulates) that stays. Scores fall as that share falls, so
the edge of what a budget allows can be found along it as along a line; the other
settings are sampled once it is known.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from penjing.engine.fractional_schedule import FractionalSchedule
from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.json_values import JsonValue
from penjing.pipeline.channel_recipe import ChannelPruneRecipe
from penjing.pipeline.one_shot_recipe import OneShotRecipe
from penjing.pipeline.recipe import (
    ExportRecipe,
    QuantizeAwareRecipe,
    Recipe,
    TrainingRecipe,
)

# Shares that stay, from the least to the most that is tried.
LEAST_KEPT, MOST_KEPT = 0.002, 0.8
LEVELS, PENALTIES = (3, 7, 15, 31), (0.0, 1e-5, 1e-4)
FILES, ONE_SHOT, CONTROL, DENSE = "files", "one-shot", "control", "dense"
# What is left of the training after the ramp and the beginning of the rounding.
_RAMP_END = 0.5
# Of a weight, in packed files; see `penjing.prune_channels`.
PACKED_BITS = 1.5
# Channels go in so many cuts, with a recovery after each; in short trainings at once,
# and what follows recovers: else recoveries would take longer than the training.
_CUTS, _FEWEST_EPOCHS = 2, 4
# Weights that stay at least, whatever the share: below, small models lose all. It is a
# share of those that have hardly more.
_KEEP_AT_LEAST, _MOST_OF_ALL = 300, 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate(JsonValue):
    """A point of the space.

    Args:
        family: Which methods act: "prune", "cut", "cut+prune"; "files": nothing is
            trained, only the file is made; "one-shot": weights fall and are rounded at
            once, and nothing is trained; "control": the dense model, trained on;
            "dense": as that, but its file is one to deploy.
        mode: Quantization mode of the file.
        keep: Share of the weights, or of the multiply-accumulates, that stays.
        levels: Values that a weight can take, in families that prune.
        rate: Learning rate, in multiples of the model's own.
        l1: Penalty on the kept weights.
        effort: Share of the full number of epochs.
        bits: How many each weight has in the mean, chosen by layer in place of
            `levels`; where nothing is trained.
    """

    family: str
    mode: str = "dynamic"
    keep: float = 1.0
    levels: int = 15
    rate: float = 3.0
    l1: float = 0.0
    effort: float = 1.0
    bits: float | None = None

    @property
    def is_trained(self) -> bool:
        """Whether anything is trained."""
        return self.family not in (FILES, ONE_SHOT)

    @property
    def is_compressed(self) -> bool:
        """Whether methods act in the training."""
        return self.is_trained and self.family not in (CONTROL, DENSE)

    @property
    def is_deployed(self) -> bool:
        """Whether its file is one to deploy; the control's is there to compare with."""
        return self.family != CONTROL

    def text(self) -> str:
        """What it is, for people.

        Example:
            >>> Candidate(family="prune", keep=0.04, levels=7).text()
            '4 % of the weights stay, 7 levels, dynamic'
        """
        if self.family == FILES:
            return f"nothing trained, {self.mode}"
        if self.family == CONTROL:
            return "dense, trained as long"
        stays = f"{100 * self.keep:.3g} % of the "
        texts = {
            ONE_SHOT: f"nothing trained, {stays}weights stay, {self._rounded_to}",
            DENSE: "trained on, all weights stay",
            "prune": stays + f"weights stay, {self.levels} levels",
            "cut": stays + "multiply-accumulates stay",
            "cut+prune": f"channels removed, {stays}weights stay, {self.levels} levels",
        }
        return f"{texts[self.family]}, {self.mode}"

    @property
    def _rounded_to(self) -> str:
        if self.bits is None:
            return f"{self.levels} levels"
        return f"{self.bits:g} bits in the mean, chosen by layer"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ground(JsonValue):
    """What all recipes of a search have in common.

    Args:
        runtime: Where the files are to run.
        objective: What is made small: "gzip", "raw", "latency" or "arena".
        learning_rate: The model's own.
        epochs: Passes over the data in a full training.
        batch_size: Samples in a batch.
        validation_split: Share of the data that is held out to decide by; 0 where the
            data brings a validation part.
        validation_from: Which part of the data it is held out of.
        metric: Name of the metric by which epochs are judged; None: the first.
        weights: How many the model has that can be pruned, about.
        max_arena: Bytes of RAM that a file may take on a microcontroller.
        cut_arena: The same for cuts of channels; None where it cannot be estimated.
        arena_share: What of the weights is left where channels go for the sake of that
            alone.
        is_bounded: Whether time, RAM or multiply-accumulates are, which zeros do not
            make less.
        trains: Whether anything may be trained.
        bounds_bytes: Whether the bytes of the file are bounded.
    """

    runtime: str
    objective: str
    learning_rate: float
    epochs: int
    batch_size: int
    validation_split: float
    validation_from: Literal["train", "test"] = "train"
    metric: str | None = None
    weights: int = 1_000_000
    max_arena: int | None = None
    cut_arena: int | None = None
    arena_share: float = 1.0
    is_bounded: bool = False
    trains: bool = True
    bounds_bytes: bool = False

    @property
    def is_micro(self) -> bool:
        """Whether files are for microcontrollers."""
        return self.runtime == "micro"

    @property
    def families(self) -> tuple[str, ...]:
        """The families that can make the objective small, the best one first.

        Zeros are worth bytes where files are compressed, by gzip or for flash; else
        channels are all that counts.
        """
        in_flash = self.objective == "raw" and self.is_micro
        if self.objective != "gzip" and not in_flash:
            return ("cut",)
        if self.is_bounded:
            return ("cut+prune", "cut")
        return ("cut+prune", "prune") if in_flash else ("prune", "cut+prune")

    @property
    def packs(self) -> bool:
        """Whether files are packed: it saves flash, and takes RAM."""
        return self.is_micro and (self.objective == "raw" or self.bounds_bytes)

    @property
    def spares(self) -> bool:
        """Whether zeros make the objective small, so that they pay without training."""
        return any("prune" in family for family in self.families)

    @property
    def least_kept(self) -> float:
        """The smallest share of the weights that can stay."""
        spared = min(_KEEP_AT_LEAST / max(self.weights, 1), _MOST_OF_ALL)
        return float(f"{max(LEAST_KEPT, spared):.3g}")  # as shares are rounded

    @property
    def modes(self) -> tuple[str, ...]:
        """Quantization modes that the runtime takes."""
        if self.is_micro:
            return ("int8",)
        return ("dynamic", "int8")

    def epochs_of(self, effort: float) -> int:
        """Epochs of a training with a share of the full effort."""
        return max(round(effort * self.epochs), 1)

    def passes_of(self, candidate: Candidate) -> int:
        """Epochs of all of a candidate's training, those between cuts too.

        The dense control is trained as long as any of the compressed ones.
        """
        cuts = candidate.family.startswith(("cut", CONTROL, DENSE))
        return self.epochs_of(candidate.effort) + (
            _CUTS * self._recovery(candidate) if cuts else 0
        )

    def _recovery(self, candidate: Candidate) -> int:
        """Epochs after each cut of channels; 0 where all go in one."""
        epochs = self.epochs_of(candidate.effort)
        return max(round(epochs / 8), 1) if epochs >= _FEWEST_EPOCHS else 0

    def recipe(self, candidate: Candidate, name: str) -> Recipe:
        """Give the recipe of a point."""
        return Recipe(
            name=name,
            description=candidate.text() + ".",
            training=self._training(candidate),
            methods=tuple(self._methods(candidate)),
            export=self._export(candidate),
        )

    def _training(self, candidate: Candidate) -> TrainingRecipe:
        held_out = TrainingRecipe(
            epochs=0,
            validation_split=self.validation_split,
            validation_from=self.validation_from,
            keep_best_by=self.metric,
        )
        if not candidate.is_trained:
            return held_out
        passes = self.epochs_of(candidate.effort)
        if not candidate.is_compressed:
            passes = self.passes_of(candidate)
        return dataclasses.replace(
            held_out,
            epochs=passes,
            batch_size=self.batch_size,
            learning_rate=candidate.rate * self.learning_rate,
            keep_best=True,
        )

    def _methods(self, candidate: Candidate) -> list[Any]:
        if candidate.family in (FILES, CONTROL, DENSE):
            return []
        if candidate.family == "cut":
            return [self._cut(candidate, macs=candidate.keep)]
        if candidate.family == ONE_SHOT:
            return [self._once(candidate)]
        keep, methods = candidate.keep, []
        if candidate.family == "cut+prune":
            channels = self.channel_share(keep)
            is_by_ram = channels < keep**0.5
            keep = min(keep / channels, MOST_KEPT) if is_by_ram else channels
            kind = "flash" if self.is_micro else "parameters"
            methods.append(self._cut(candidate, **{kind: channels}))
        return [*methods, self._pruned(candidate, keep), self._rounded(candidate)]

    def channel_share(self, keep: float) -> float:
        """What of the weights the cut of "cut+prune" leaves, of which `keep` stay.

        It goes half of the way, of the logarithm, or as far as RAM makes it go.
        """
        return float(min(keep**0.5, self.arena_share))

    def most_kept(self, family: str) -> float:
        """The largest share that a family tries."""
        share = self.arena_share if family == "cut+prune" else 1.0
        # As shares are rounded.
        return max(float(f"{share * MOST_KEPT:.3g}"), self.least_kept)

    def _cut(self, candidate: Candidate, **target: float) -> ChannelPruneRecipe:
        bits = PACKED_BITS if "flash" in target else 8.0
        recovery = self._recovery(candidate)
        return ChannelPruneRecipe(
            steps=_CUTS if recovery else 1,
            recovery_epochs=recovery,
            best_effort=True,
            weight_bits=bits,
            max_arena=self.cut_arena,
            **target,  # type: ignore[arg-type]
        )

    def _once(self, candidate: Candidate) -> OneShotRecipe:
        return OneShotRecipe(
            sparsity=round(1 - candidate.keep, 6),
            levels=candidate.levels if candidate.bits is None else None,
            mean_bits=candidate.bits,
            granularity="per_tensor" if self.is_micro else "per_channel",
        )

    def _pruned(self, candidate: Candidate, keep: float) -> PruningConfig:
        schedule = FractionalSchedule(
            initial_sparsity=min(0.5, 1 - keep),
            final_sparsity=1 - keep,
            begin=0.0,
            end=_RAMP_END,
        )
        # Of what the cut left, where there was one.
        left = candidate.keep / keep * self.weights
        spared = max(round(min(_KEEP_AT_LEAST, _MOST_OF_ALL * left)), 1)
        return PruningConfig(
            schedule, scope="global", keep_at_least=spared, l1=candidate.l1
        )

    def _rounded(self, candidate: Candidate) -> QuantizeAwareRecipe:
        return QuantizeAwareRecipe(
            levels=candidate.levels,
            granularity="per_tensor",
            begin=_RAMP_END,
            activations="int8" if candidate.mode == "int8" else None,
        )

    def _export(self, candidate: Candidate) -> ExportRecipe:
        if candidate.family == CONTROL:
            return ExportRecipe(quantizations=("float32",))
        settings: dict[str, Any] = {"finish": "smallest"}
        if self.runtime in ("micro", "wasm"):  # they run no file with free sizes
            settings["runtime"] = self.runtime
        if self.packs and candidate.mode == "int8" and candidate.family != FILES:
            settings.update(encoding="packed", max_arena=self.max_arena)
        return ExportRecipe(quantizations=(candidate.mode,), **settings)
