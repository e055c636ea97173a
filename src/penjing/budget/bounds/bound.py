"""The bound on the score: of which metric, against what, and how much is used up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from penjing.arguments import did_you_mean, quoted
from penjing.budget.bounds.quantities import Drop
from penjing.errors import CompressionError
from penjing.measurement.metric_direction import HIGHER, LOWER
from penjing.measurement.scoring import first_metric
from penjing.pipeline.inputs.teacher import AGREEMENT

# Where nothing is bounded: half a point is what people call "accuracy kept".
DEFAULT_POINTS = Drop(0.5, relative=False)
DEFAULT_RELATIVE = Drop(0.01, relative=True)
# Scores of Keras are float32.
_TIE = 1e-6
# A cosine of a vector with itself is above 1 by this much in float32.
_ROUNDED = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """How far a score may fall behind a reference.

    Args:
        metric: Name of the metric.
        direction: `"higher"` or `"lower"` values are better.
        reference: The score that others are measured against.
        drop: How much worse a score may be; None bounds nothing.
        noise: Standard error of a score, in the metric's own unit: what chance makes.

    Example:
        >>> bound = Bound(
        ...     metric="accuracy",
        ...     direction="higher",
        ...     reference=0.9,
        ...     drop=Drop(0.5, relative=False),
        ... )
        >>> round(bound.used(0.8975), 3), bound.allows(0.894)
        (0.5, False)
    """

    metric: str
    direction: str
    reference: float
    drop: Drop | None
    noise: float = 0.0

    def lost(self, score: float) -> float:
        """How much worse a score is than the reference, in the metric's own unit."""
        if not math.isfinite(score):
            return math.inf
        return (1 if self.direction == LOWER else -1) * (score - self.reference)

    def better(self, a: float, b: float) -> bool:
        """Whether one score is better than another."""
        return self.lost(a) < self.lost(b)

    @property
    def allowed(self) -> float:
        """What may be lost, in the metric's own unit; infinity where nothing binds."""
        if self.drop is None:
            return math.inf
        if self.drop.relative:
            return self.drop.amount * abs(self.reference)
        return self.drop.amount / 100

    @property
    def unit(self) -> float:
        """What counts as one step of loss: the drop, else half a point or 1 %."""
        if self.drop is not None and self.allowed > 0:
            return self.allowed
        return self._usual

    @property
    def _usual(self) -> float:
        usual = default_drop(self.metric, self.direction, self.reference)
        return dataclasses.replace(self, drop=usual).allowed or 1e-3

    def clearly(self, steps: float) -> float:
        """What is lost by no chance: so many steps, which a tight drop makes no less.

        It is three standard errors of the score at least.
        """
        return max(steps * max(self.unit, self._usual), 3 * self.noise)

    def used(self, score: float) -> float:
        """How many of what may be lost a score has lost; above 1 is too much."""
        return self.lost(score) / self.unit

    def beyond(self, score: float, share: float = 1.0) -> float:
        """By how many units a score lost more than a share of what it may lose."""
        return (self.lost(score) - share * self.allowed) / self.unit

    def allows(self, score: float) -> bool:
        """Whether a score is within the bound; ties of floating point are."""
        slack = _TIE * (1 + abs(self.reference))
        return math.isfinite(score) and self.lost(score) <= self.allowed + slack

    @property
    def lowest(self) -> float:
        """The worst score that is allowed."""
        sign = 1 if self.direction == LOWER else -1
        return self.reference + sign * self.allowed

    def text(self, score: float) -> str:
        """What a score has lost, for people.

        Example:
            >>> bound = Bound(
            ...     metric="accuracy", direction="higher", reference=0.9, drop=None
            ... )
            >>> bound.text(0.8975), bound.text(0.91)
            ('0.25 points below', '1.00 point above')
        """
        if self._counts_points():
            points = 100 * self.lost(score)
            plural = "" if f"{abs(points):.2f}" == "1.00" else "s"
            where = "below" if points > 0 else "above"
            return f"{abs(points):.2f} point{plural} {where}"
        share = self.lost(score) / abs(self.reference) if self.reference else math.inf
        return f"{100 * abs(share):.2f} % {'worse' if share > 0 else 'better'}"

    def against(self, score: float) -> str:
        """What a score has lost of the reference, for people.

        Example:
            >>> bound = Bound(metric="mae", direction="lower", reference=2.0, drop=None)
            >>> bound.against(2.1), bound.against(float("nan"))
            ('5.00 % worse than 2.0000', 'nan in place of 2.0000')
        """
        if not math.isfinite(score):
            return f"{score} in place of {self.reference:.4f}"
        than = "" if self._counts_points() else "than "
        return f"{self.text(score)} {than}{self.reference:.4f}"

    def _counts_points(self) -> bool:
        if self.drop is not None:
            return not self.drop.relative
        return not default_drop(self.metric, self.direction, self.reference).relative


def default_drop(metric: str, direction: str, score: float) -> Drop:
    """Half a point of a metric that goes from 0 to 1 and is better high, else 1 %."""
    share = direction == HIGHER and 0.0 <= score <= 1.0 + _ROUNDED
    return DEFAULT_POINTS if share else DEFAULT_RELATIVE


def bound_on(
    metrics: Mapping[str, float],
    directions: Mapping[str, str],
    *,
    name: str | None,
    drop: Drop | None,
    bounded: bool,
) -> Bound:
    """Choose the metric that decides, and how much of it may be lost.

    `metrics` are the uncompressed file's scores; `bounded` says that the budget bounds
    other things. A CompressionError says that there is no such metric, that nobody
    knows which of its values are better, or that it does not go from 0 to 1, so that it
    has no points.
    """
    chosen = name if name is not None else first_metric(metrics)
    if chosen is None or chosen not in metrics:
        raise CompressionError(
            f"There is no metric {chosen!r} to decide by: measured are "
            f"{quoted(metrics) or 'none'}.{did_you_mean(chosen, metrics)} Compile the "
            "model with metrics, or name another one in `metric` (--metric)."
        )
    direction = directions.get(chosen, "")
    if direction not in (HIGHER, LOWER):
        raise CompressionError(
            f"Nobody knows whether high or low values of the metric {chosen!r} are "
            f"better, so it cannot decide. Measured are {quoted(metrics)}: name one of "
            "the others in `metric` (--metric), or give yours a name that says it, "
            "such as 'my_accuracy' or 'my_error'."
        )
    score = metrics[chosen]
    if not math.isfinite(score):
        raise CompressionError(
            f"The model's {chosen} on the validation data is {score}: nothing can be "
            "compared with it. Check the model and the data for NaN."
        )
    usual = default_drop(chosen, direction, score)
    if drop is not None and not drop.relative and usual.relative:
        raise CompressionError(
            f"`max_drop`={drop.amount:g} counts points, hundredths of a metric that "
            f"goes from 0 to 1 and is better high, but {chosen} is {score:.4g} "
            f"({direction} is better). Say how many percent worse it may get: "
            f'max_drop="{drop.amount:g}%".'
        )
    if drop is None and not bounded:
        drop = usual
    return Bound(metric=chosen, direction=direction, reference=score, drop=drop)


def standard_error(
    scores: Sequence[float], *, samples: int = 0, direction: str = LOWER
) -> float:
    """Standard error of the score of a data set, from scores of its equal parts.

    It is the method of batch means. A few parts may agree by chance; where the score is
    a share of so many `samples`, its error is at least the binomial one.

    Example:
        >>> round(standard_error([0.9, 0.8, 1.0, 0.9]), 4)
        0.0408
        >>> round(standard_error([0.9, 0.9], samples=100, direction="higher"), 4)
        0.03
    """
    error = float(np.std(list(scores), ddof=1)) / math.sqrt(len(scores))
    mean = float(np.mean(list(scores)))
    if samples and direction == HIGHER and 0 <= mean <= 1 + _ROUNDED:
        return max(error, _error_of_share(min(mean, 1.0), samples))
    return error


def noise_warning(
    bound: Bound, error: float, samples: int, part: str = "test data"
) -> str | None:
    """Say that what may be lost is less than what chance decides; else None."""
    if bound.metric == AGREEMENT and bound.drop is not None:
        error = max(error, _error_of_share(bound.reference - bound.allowed, samples))
    if bound.drop is None or bound.allowed >= error or not math.isfinite(error):
        return None
    return (
        f"The bound of {bound.drop} is smaller than the noise of the {part}: one "
        f"standard error of {bound.metric} on {samples:,} samples is about "
        f"{_amount(bound, error)}, so a file within the bound may look outside it, and "
        "the reverse. More samples make it smaller."
    )


def _error_of_share(share: float, samples: int) -> float:
    """Binomial error. A model agrees with itself always, its file at the bound not."""
    return math.sqrt(max(share * (1 - share), 0.0) / max(samples, 1))


def memory_warning(
    bound: Bound, tested: float, error: float, *, samples: int, others: int
) -> str | None:
    """Say that a model does better on validation data than chance makes it; else None.

    `tested` is its score on test data, `error` the standard error of that; there are
    `samples` validation and `others` test samples. Nothing is decided by it.
    """
    noise = error * math.sqrt(1 + others / max(samples, 1))
    # Early stopping chooses the best of some epochs by validation data: that alone
    # makes a difference of one to two standard errors.
    if not bound.lost(tested) > max(3 * noise, bound.unit):
        return None
    return (
        f"The model's {bound.metric} is {bound.reference:.4f} on the validation data "
        f"and {tested:.4f} on the test data, which is more than chance makes: it was "
        "probably trained on the validation data and remembers them, or the test data "
        "are of another kind. What a file forgets then counts as lost, and smaller "
        "files are turned down. Give examples that the model has not seen as "
        "x_validation and y_validation."
    )


def _amount(bound: Bound, amount: float) -> str:
    if bound.drop is not None and bound.drop.relative:
        share = amount / abs(bound.reference) if bound.reference else math.inf
        return f"{100 * share:.2g} %"
    return f"{100 * amount:.2g} points"


def better_of(bound: Bound, scores: Iterable[float]) -> Bound:
    """The bound against the best of its reference and other scores."""
    best = min([bound.reference, *scores], key=bound.lost)
    return dataclasses.replace(bound, reference=best)
