"""What a search is after: which files meet the budget, and which of two is better."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from penjing.budget.bounds.bound import Bound

_COST_OF = {"max_latency": "latency", "max_arena": "arena", "max_macs": "macs"}
# Of a bound on costs, what a file may fall short of it: nearer than that costs trials.
_SLACK = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """The bounds and the objective, applied to what a file costs and scores.

    Args:
        bound: On the score.
        bounds: Name of a bound -> the most that is allowed.
        bytes_kind: Which bytes `max_bytes` counts: "raw" or "gzip".
        objective: The cost that is made small.
    """

    bound: Bound
    bounds: Mapping[str, float]
    bytes_kind: str
    objective: str

    @property
    def costs(self) -> tuple[str, ...]:
        """The costs that have to be measured."""
        bounded = [self._cost_of(name) for name in self.bounds]
        return tuple(dict.fromkeys([*bounded, self.objective, "gzip"]))

    def _cost_of(self, name: str) -> str:
        return _COST_OF.get(name, self.bytes_kind)

    def excess(self, costs: Mapping[str, float]) -> float:
        """The worst cost as a multiple of its bound, as a logarithm; 0 is the bound."""
        return max(
            (
                math.log(max(costs[self._cost_of(name)], 1e-12) / most)
                for name, most in self.bounds.items()
            ),
            default=-math.inf,
        )

    def is_met(self, score: float, costs: Mapping[str, float]) -> bool:
        """Whether a file is within all bounds."""
        return self.bound.allows(score) and self.excess(costs) <= 0.0

    def rank(self, score: float, costs: Mapping[str, float]) -> tuple[float, ...]:
        """What files are sorted by, the best one first.

        Files within the bounds come first: the smallest where the score is bounded,
        else the one that scores best; then those that miss the bounds by least, and
        last what scores no number.
        """
        lost = self.bound.lost(score)
        if not math.isfinite(lost):  # what gives no number is the last resort
            return (2.0, max(self.excess(costs), 0.0), lost)
        if self.is_met(score, costs):
            cost = costs[self.objective]
            return (0.0, cost, lost) if self.bound.drop else (0.0, lost, cost)
        over = max(self.excess(costs), 0.0)
        missed = max(self.bound.beyond(score), 0.0) if self.bound.drop else 0.0
        return (1.0, over + missed, lost)

    def position(self, score: float, costs: Mapping[str, float], used: float) -> float:
        """Above 0 where more of the model must stay, below where less can.

        `used` is how many of what may be lost a file is to lose. Where only costs are
        bounded, as much stays as they allow. Where a file misses both kinds of bounds,
        it is to miss them by about as much.
        """
        over = self.excess(costs)
        if self.bound.drop is None:
            return -over - _SLACK
        beyond = self.bound.beyond(score, share=used)
        if over <= 0.0:
            return beyond
        return beyond - over if beyond > 0.0 else -over

    def gaps(self, score: float, costs: Mapping[str, float]) -> tuple[str, ...]:
        """The bounds that a file misses, for people."""
        missed = []
        if not self.bound.allows(score):
            drop = self.bound.drop
            allowed = f", where {drop} is allowed" if drop else ""
            missed.append(
                f"{self.bound.metric} is {self.bound.against(score)}{allowed}"
            )
        for name, most in self.bounds.items():
            cost = costs[self._cost_of(name)]
            if cost > most:
                what = f"{self._cost_of(name)} {amount_text(name, cost)}"
                missed.append(f"{what}, where {amount_text(name, most)} is allowed")
        return tuple(missed)

    def front(
        self, found: Iterable[tuple[str, float, Mapping[str, float]]]
    ) -> list[str]:
        """Names of the files that no other one beats in both score and objective."""
        rows = sorted(
            found, key=lambda row: (row[2][self.objective], self.bound.lost(row[1]))
        )
        names, best = [], math.inf
        for name, score, _ in rows:
            if self.bound.lost(score) < best:
                best = self.bound.lost(score)
                names.append(name)
        return names


def amount_text(name: str, amount: float) -> str:
    """A cost as people write it, by the name of its bound.

    Example:
        >>> amount_text("max_latency", 0.00125), amount_text("max_macs", 5e6)
        ('1.25 ms', '5,000,000')
    """
    if name == "max_latency":
        return f"{1000 * amount:.3g} ms"
    if name == "max_macs":
        return f"{amount:,.0f}"
    return f"{amount:,.0f} bytes"
