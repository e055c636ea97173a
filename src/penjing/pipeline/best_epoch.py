"""Training that is judged by validation data: the best epoch, and hopeless runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras

from penjing.arguments import did_you_mean, quoted
from penjing.engine.engine import TransformEngine
from penjing.errors import CompressionError, RecipeError
from penjing.measurement.accuracy import evaluate
from penjing.measurement.metric_direction import HIGHER, UNKNOWN
from penjing.measurement.scoring import first_metric
from penjing.pipeline.inputs.run_data import few_examples
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.runs.run_state import BestEpoch, RunState
from penjing.pipeline.training import evaluation_arguments, metric_directions


class HopelessError(CompressionError):
    """The training was stopped: it is worse than what was asked for.

    `epochs` are finished; the last one has `scores`.
    """

    def __init__(
        self, text: str, epochs: int, scores: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(text)
        self.epochs, self.scores = epochs, dict(scores or {})


@dataclasses.dataclass(kw_only=True, eq=False)
class EpochJudge:
    """Scores a model after each epoch in which all of its methods acted in full.

    It is what `train` calls. Scores are those of the metric that the recipe names, else
    of the first one, of the recipe or of the original model.

    Args:
        original: The model before the recipe.
        training: What the recipe says of metrics.
        part: Validation data, `(x, y)` or a loader.
        keeps: Whether the weights of the best epoch are kept.
        lowest: A score; where an epoch's is worse, the training ends.
        state: Where the weights are kept, so that they survive a kill.
    """

    original: keras.Model
    training: TrainingRecipe
    part: Any
    keeps: bool
    lowest: float | None = None
    state: RunState | None = None
    _unsaved: BestEpoch | None = None

    def __post_init__(self) -> None:
        """Find the metric; a RecipeError if it has no better and worse."""
        few = few_examples(self.original, self.part, "validation")
        names = list(self._evaluate(self.original, few))
        directions = metric_directions(self.original, self.training, names)
        wanted = self.training.keep_best_by
        if wanted is not None and wanted not in names:
            raise RecipeError(
                f"`keep_best_by` names the metric {wanted!r}, and measured are "
                f"{quoted(names)}.{did_you_mean(wanted, names)}"
            )
        self.metric = wanted or first_metric(names) or ""
        self._direction = directions.get(self.metric, UNKNOWN)
        if self._direction == UNKNOWN:
            raise RecipeError(
                f"Nothing says whether more or less of the metric {self.metric!r} is "
                "better, so no epoch is the best. Name another one in `keep_best_by`, "
                "or first in `metrics`, below [training]."
            )

    def __call__(self, epoch: int, model: keras.Model) -> dict[str, float]:
        """Judge an epoch, from 0; what it gives goes into the history."""
        if not acts_in_full(model):
            return {}
        score = self._evaluate(model, self.part)[self.metric]
        if self.lowest is not None and self._is_better(self.lowest, score):
            raise HopelessError(
                f"In epoch {epoch + 1} the validation {self.metric} is {score:.4g}, "
                f"worse than {self.lowest:.4g}.",
                epoch + 1,
                {self.metric: score},
            )
        best = self._best
        if self.keeps and (best is None or self._is_better(score, best.score)):
            values = [keras.ops.convert_to_numpy(w.value) for w in model.weights]
            self._best = BestEpoch(epoch=epoch, score=score, values=values)
        return {f"val_{self.metric}": score}

    @property
    def _best(self) -> BestEpoch | None:
        return self.state.best if self.state else self._unsaved

    @_best.setter
    def _best(self, best: BestEpoch) -> None:
        if self.state:
            self.state.best = best
        self._unsaved = best

    def restore(self, model: keras.Model) -> str:
        """Give a model the weights that are kept; says of which epoch they are."""
        best = self._best
        if best is None:
            return ""
        for weight, value in zip(model.weights, best.values, strict=True):
            weight.assign(value)
        return (
            f"the weights are those of epoch {best.epoch + 1}, the best by the "
            f"validation {self.metric}, {best.score:.4g}"
        )

    def _is_better(self, score: float, other: float) -> bool:
        """Whether a score is better than another; no number is worse than any."""
        if math.isnan(score):
            return False
        if math.isnan(other):
            return True
        return score > other if self._direction == HIGHER else score < other

    def _evaluate(self, model: keras.Model, part: Any) -> dict[str, float]:
        x, y = part if isinstance(part, tuple) else (part, None)
        return evaluate(
            model, x, y, **evaluation_arguments(self.original, self.training)
        )


def acts_in_full(model: keras.Model) -> bool:
    """Whether all methods do: sparsity reached, masks final, quantization begun."""
    if not isinstance(model, TransformEngine):
        return True
    step = model.count_steps()
    return all(transform.pending(step) is None for transform in model.transforms)
