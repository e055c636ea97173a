"""What is known and decided before the first trial: the look, the goal, the ground."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import keras

from penjing.budget.bounds.bound import (
    Bound,
    bound_on,
    memory_warning,
    noise_warning,
    standard_error,
)
from penjing.budget.bounds.goal import Goal
from penjing.budget.bounds.quantities import Drop
from penjing.budget.budget import Budget
from penjing.budget.first_look import FirstLook, batch_size_for, count_prunable, look_at
from penjing.budget.planning.space import PACKED_BITS, Ground
from penjing.channels.channel_pruning import cut_to_arena
from penjing.channels.target import LEAST_ARENA
from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, UnsupportedModelError
from penjing.measurement.metric_direction import HIGHER
from penjing.measurement.scoring import first_metric
from penjing.pipeline.inputs.run_inputs import RunInputs
from penjing.pipeline.learning_rate import ChosenRate, choose_learning_rate
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training_data import TrainingData
from penjing.progress import Listener, Progress

# Batches of a full training, from where longer ones hardly pay, and its epochs.
_LEAST_STEPS, _EPOCHS, _MOST_EPOCHS = 6_000, 16, 50
# Full trainings that a search needs to be one: the control, short ones, four full ones.
_TRAININGS = 8.0
_FEW_SAMPLES = 40  # in fewer, chance makes more than people expect
# Of what is compared with the model's own outputs: it changes its mind about examples
# that it is unsure of, which costs half as many right answers or fewer.
TAUGHT_DROP = Drop(2.0, relative=False)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Preparation:
    """What a search is told, each part found once and kept in `state`.

    `data` is that of `inputs` with what is decided by, and `held_out` says what of it
    that is; `trains` whether anything may be trained.
    """

    inputs: RunInputs
    data: UserData
    held_out: TrainingRecipe
    budget: Budget
    seed: int
    state: RunState
    progress: Listener
    trains: bool = True

    @property
    def model(self) -> keras.Model:
        """The model that is compressed, with its loss and metrics."""
        return self.inputs.model

    @functools.cached_property
    def look(self) -> FirstLook:
        """What was seen of model and data."""
        self.progress(Progress(stage="Looking at model and data"))
        training = TrainingRecipe(batch_size=batch_size_for(self.data))

        def look() -> dict[str, Any]:
            return look_at(
                self.model, self.data, training, self.seed, trains=self.trains
            ).to_dict()

        return FirstLook.from_dict(self.state.run_stage("First look", [], look))

    @functools.cached_property
    def bound(self) -> Bound:
        """The bound on the score."""
        drop, bounded = self.budget.drop, bool(self.budget.bounds)
        if drop is None and not bounded and self.inputs.is_taught:
            drop = TAUGHT_DROP
        bound = bound_on(
            self.look.metrics,
            self.look.directions,
            name=self.budget.metric,
            drop=drop,
            bounded=bounded,
        )
        return dataclasses.replace(bound, noise=self._noise(bound, self.look.samples))

    def _noise(self, bound: Bound, samples: int) -> float:
        """Standard error of a score on so many samples; 0 where nobody knows."""
        if not samples:
            return 0.0
        error, tests = self.look.errors.get(bound.metric), self.look.test_samples
        if error is not None:
            return error * math.sqrt(tests / samples)
        # Too few test samples for parts: of a share, as if two more were one each way.
        score = bound.reference
        if bound.direction == HIGHER and 0.0 <= score <= 1.0:
            score = (score * samples + 1) / (samples + 2)
        alike = [score] * 2
        return standard_error(alike, samples=samples, direction=bound.direction)

    def goal(self) -> Goal:
        """What is looked for.

        A CompressionError says that its latency cannot be had.
        """
        goal = Goal(
            bound=self.bound,
            bounds=self.budget.bounds,
            bytes_kind=self.budget.bytes_kind,
            objective=self.budget.objective,
        )
        batches = {t.shape[0] for t in getattr(self.model, "inputs", None) or ()}
        if "latency" in goal.costs and not batches <= {None, 1}:
            raise CompressionError(
                f"Latencies are those of one sample, and {self.model.name!r} has a "
                f"fixed batch of {max(batches - {None})}. Give keras.Input no "
                "`batch_size`, or bound something else."
            )
        return goal

    @functools.cached_property
    def ground(self) -> Ground:
        """What all recipes have in common."""
        bounds, metric = self.budget.bounds, self.bound.metric
        # What labels are made for is told by the recipe too, where it was chosen.
        is_usual = metric == first_metric(self.look.metrics) and not (
            self.inputs.is_taught and self.budget.metric
        )
        return Ground(
            runtime=self.budget.runtime,
            objective=self.budget.objective,
            learning_rate=self._learning_rate() if self.trains else 0.0,
            epochs=self._kept_epochs() if self.trains else 0,
            batch_size=batch_size_for(self.data),
            validation_split=self.held_out.validation_split,
            validation_from=self.held_out.validation_from,
            metric=None if is_usual else metric,
            weights=count_prunable(self.model),
            max_arena=int(bounds["max_arena"]) if "max_arena" in bounds else None,
            **self._cut_to_ram(),
            is_bounded=bool(bounds.keys() - {"max_bytes"}),
            trains=self.trains,
            bounds_bytes="max_bytes" in bounds,
        )

    def _cut_to_ram(self) -> dict[str, Any]:
        """The RAM that cuts keep to, and what of the weights that alone leaves."""
        most = self.budget.bounds.get("max_arena")
        if most is None or not self.trains:
            return {}
        cut_arena = max(int(most), LEAST_ARENA)

        def measure() -> dict[str, Any]:
            try:
                smaller = cut_to_arena(self.model, cut_arena, PACKED_BITS)
            except UnsupportedModelError:  # no channels can go, or sizes are free
                return {}
            share = smaller.count_params() / self.model.count_params()
            return {"cut_arena": cut_arena, "arena_share": share}

        return dict(self.state.run_stage("Cut to the RAM", [], measure))

    def _learning_rate(self) -> float:
        size = batch_size_for(self.data)
        source = TrainingData(source=self.data.train, batch_size=size, seed=self.seed)

        def choose() -> dict[str, Any]:
            training = TrainingRecipe(batch_size=size)
            return choose_learning_rate(
                self.model, source, training, progress=self.progress
            ).to_dict()

        found = self.state.run_stage("Learning rate", [], choose)
        return ChosenRate.from_dict(found).value

    def _kept_epochs(self) -> int:
        """Of a full training, as the search began: what is known had so many."""
        fit = self._epochs()
        kept = int(
            self.state.run_stage("Epochs", [], lambda: {"epochs": fit})["epochs"]
        )
        if fit > kept:
            text = (
                f"Full trainings have {kept} epochs, as when this search began; now "
                f"{fit} would fit. --restart begins anew, with those."
            )
            self.progress(Progress(stage=text, notice=True))
        return kept

    def _epochs(self) -> int:
        """Of a full training: as many as pay, and as the time bears."""
        steps = self.look.steps_per_epoch
        epochs = min(max(_EPOCHS, -(-_LEAST_STEPS // steps)), _MOST_EPOCHS)
        if self.budget.seconds is not None:
            each = 1.5 * self.look.pace * steps
            epochs = min(epochs, math.floor(self.budget.seconds / _TRAININGS / each))
        return max(epochs, 1)

    def notes(self) -> tuple[str, ...]:
        """What to know before anything is trained."""
        look, bound = self.look, self.bound
        notes = [
            self._noise_note(look.samples, "validation data, which decide")
            or self._noise_note(look.test_samples, "test data")
        ]
        error = look.errors.get(bound.metric)
        if error is not None:
            tested = look.test_metrics[bound.metric]
            counts = {"samples": look.samples, "others": look.test_samples}
            notes.append(memory_warning(bound, tested, error, **counts))
        notes += [self._outputs_note(), self._bytes_note()]
        notes.append(self._time_note() if self.trains else None)
        return tuple(note for note in notes if note)

    def _noise_note(self, samples: int, part: str) -> str | None:
        """Say where chance decides; nothing where nobody knows how many samples."""
        if not samples:
            return None
        bound = self.bound
        error = self._noise(bound, samples)
        is_unknown = not error and samples < _FEW_SAMPLES
        if is_unknown and bound.drop is not None:
            return (
                f"{samples:,} samples are too few to tell what chance makes of "
                f"{bound.metric} on the {part}: a file within the bound may look "
                "outside it, and the reverse."
            )
        return noise_warning(bound, error, samples, part)

    def _outputs_note(self) -> str | None:
        """Say that one of several outputs decides."""
        metric = self.bound.metric
        others = [name for name in self.look.metrics if name != metric]
        outputs = getattr(self.model, "outputs", None) or ()
        if len(outputs) < 2 or self.bound.drop is None:
            return None
        rest = f" Measured too: {', '.join(others)}." if others else ""
        return (
            f"The model has {len(outputs)} outputs, and {metric} alone "
            f"decides: the others may get worse.{rest} `metric` (--metric) chooses "
            "another one."
        )

    def _bytes_note(self) -> str | None:
        """Say that bytes which nobody unzips need other channels, and so a training."""
        if self.trains or self.ground.spares or "max_bytes" not in self.budget.bounds:
            return None
        return (
            "Zeros and few levels make no file smaller that is not compressed, and "
            "channels are cut with a training alone: without one, plain files are all "
            "that is tried. `compressed=True` (--compressed) counts bytes after gzip."
        )

    def _time_note(self) -> str | None:
        look, seconds = self.look, self.budget.seconds
        wanted = 1.5 * look.pace * look.steps_per_epoch * self.ground.epochs
        if seconds is None or wanted * _TRAININGS / 2 <= seconds:
            return None
        return (
            f"A training takes about {wanted:.0f} s, and there are {seconds:.0f} s: "
            "few trials fit. Give more `time` (--time), or less data."
        )
