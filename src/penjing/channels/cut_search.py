"""Which units go: a ranking, whole multiples, the fewest that meet a target."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt

from penjing.channels.cut_costs import CutCosts
from penjing.channels.flash_estimate import flash_estimate
from penjing.channels.groups import ChannelGroup
from penjing.channels.target import ChannelTarget
from penjing.errors import CompressionError, UnsupportedModelError
from penjing.measurement.macs import MacsReport, count_macs
from penjing.measurement.sensitivity_table import SensitivityTable
from penjing.models.keras_private import all_layers, attention_parts
from penjing.numerics.channel_importance import Scores

KeptUnits = dict[str, npt.NDArray[np.bool_]]
Cost = Callable[[KeptUnits], float]

_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_MAX_REFILLS = 1000
_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The units of one group with their scores, and how many of them may stay.

    They are a multiple of `step`, or all, at least `floor` and, where there is one, at
    most `ceiling`.
    """

    name: str
    scores: npt.NDArray[np.float64]
    step: int
    floor: int
    ceiling: int | None = None

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.scores)

    @functools.cached_property
    def allowed(self) -> list[int]:
        """Numbers of units that may stay, rising; without a ceiling the last is all.

        A group that is smaller than the step cannot keep a multiple of it: there
        every number is allowed.
        """
        step = self.step if self.step < self.size else 1
        least = math.ceil(self.floor / step) * step
        counts = sorted({*range(min(least, self.size), self.size, step), self.size})
        most = self.size if self.ceiling is None else self.ceiling
        return [count for count in counts if count <= most]

    def best(self, count: int) -> npt.NDArray[np.bool_]:
        """Mask of the `count` best units; of equal ones the first stay."""
        mask = np.zeros(self.size, bool)
        mask[np.argsort(-self.scores, kind="stable")[:count]] = True
        return mask

    def share_of_last(self) -> float:
        """What share of the scores of those that stay goes with the next lower number.

        A share, as sums would let the groups with the most weights in a unit give all.
        """
        known = np.isfinite(self.scores)
        scores = np.where(known, self.scores, self.scores[known].max(initial=0.0))
        stays, fewer = (self.best(count) for count in self.allowed[:-3:-1])
        whole = float(scores[stays].sum())
        return 1.0 - float(scores[fewer].sum()) / whole if whole else 0.0


class CutSearch:
    """All cuts that one ranking allows, from the least to as much as can go.

    The least cuts nothing but what is above the ceilings of groups.

    The scope is `"global"`: one ranking of all units; or `"layer"`: each group gives
    the same fraction.
    """

    def __init__(self, groups: Sequence[Candidates], scope: str) -> None:
        self.groups = groups
        self.scope = scope
        keys, owners = [], []
        for number, group in enumerate(groups):
            spare = slice(group.size - group.allowed[-1], group.size - group.allowed[0])
            rising = np.sort(group.scores)
            if scope == "layer":
                rising = (np.arange(group.size) + 0.5) / group.size
            keys.append(rising[spare])
            owners.append(np.full(len(keys[-1]), number))
        order = np.argsort(np.concatenate(keys or [np.zeros(0)]), kind="stable")
        self._owners = np.concatenate(owners or [np.zeros(0, int)])[order]

    @property
    def units(self) -> int:
        """Units of all groups."""
        return sum(group.size for group in self.groups)

    @property
    def least(self) -> int:
        """Units that go in any case, for ceilings."""
        return sum(group.size - group.allowed[-1] for group in self.groups)

    @property
    def most(self) -> int:
        """Units that can go at most, beside those that go in any case."""
        return len(self._owners)

    def counts(self, dropped: int) -> list[int]:
        """Units of each group that stay when the last `dropped` of the ranking go.

        Each number is the allowed one next to it, the larger of two.
        """
        gone = np.bincount(self._owners[:dropped], minlength=len(self.groups))
        return [
            min(group.allowed, key=lambda n: (abs(n - left), -n))
            for group, left in (
                (group, group.allowed[-1] - int(lost))
                for group, lost in zip(self.groups, gone, strict=True)
            )
        ]

    def kept(self, counts: Sequence[int]) -> KeptUnits:
        """Group name -> which units stay, the best of each."""
        return {
            group.name: group.best(count)
            for group, count in zip(self.groups, counts, strict=True)
        }

    def within(self, cost: Cost, target: float) -> KeptUnits | None:
        """The fewest units of the ranking that must go for a cost to be met, or None.

        In the global scope what is left of the budget then gives groups back as many
        units as fit in. The cost of a cut does not rise as units go.
        """
        limit = target * (1 + _TOLERANCE)
        low, high = 0, self.most
        if cost(self.kept(self.counts(high))) > limit:
            return None
        while low < high:
            middle = (low + high) // 2
            if cost(self.kept(self.counts(middle))) <= limit:
                high = middle
            else:
                low = middle + 1
        counts = self.counts(low)
        if self.scope == "global":
            counts = self._refilled(counts, cost, limit)
        return self.kept(counts)

    def _refilled(self, counts: list[int], cost: Cost, limit: float) -> list[int]:
        """Give back units, the best that went first, as long as the cost allows."""
        closed: set[int] = set()
        for _ in range(_MAX_REFILLS):
            choices = {
                number: np.sort(group.scores)[::-1][counts[number]]
                for number, group in enumerate(self.groups)
                if number not in closed and counts[number] < group.allowed[-1]
            }
            if not choices:
                break
            number = max(choices, key=lambda n: choices[n])
            allowed = self.groups[number].allowed
            trial = list(counts)
            trial[number] = allowed[allowed.index(counts[number]) + 1]
            if cost(self.kept(trial)) <= limit:
                counts = trial
            else:
                closed.add(number)
        return counts


def units_in_steps(
    size: int, width: int, round_to: int, min_channels: int
) -> dict[str, int]:
    """`step` and `floor` of `Candidates`, given numbers of channels.

    A unit has `width` channels: more than 1 for heads and convolution groups.

    Example:
        >>> units_in_steps(size=12, width=4, round_to=8, min_channels=9)
        {'step': 2, 'floor': 3}
    """
    step = round_to // math.gcd(round_to, width)
    return {"step": step, "floor": min(max(math.ceil(min_channels / width), 1), size)}


class OutOfReachError(CompressionError):
    """A target is beyond what can be cut.

    `in_reach` takes the same share of what can be cut, and leaves as much of it as the
    target leaves of the whole; of `max_arena` it is the least. As that `argument` of
    `prune_channels` it can be had.
    """

    def __init__(self, text: str, in_reach: float | int, *, argument: str) -> None:
        super().__init__(text)
        self.in_reach, self.argument = in_reach, argument


_WORDS = {
    "macs": "multiply-accumulates",
    "parameters": "parameters",
    "flash": "bytes of flash, estimated",
    "latency": "milliseconds",
}


def as_candidates(
    group: ChannelGroup, scores: Scores, round_to: int, min_channels: int, least: int
) -> Candidates:
    """The units of a group, and how many may stay: `least` at the least.

    Every layer that makes some keeps its best one.
    """
    scores = scores.copy()
    reserved: set[int] = set()
    for member in group.members:
        units = np.unique(member.units[member.units >= 0])
        if len(units) and reserved.isdisjoint(units.tolist()):
            reserved.add(int(units[np.argmax(scores[units])]))
    scores[sorted(reserved)] = np.inf
    steps = units_in_steps(group.size, group.width, round_to, min_channels)
    floor = max(steps["floor"], len(reserved), least)
    return Candidates(name=group.name, scores=scores, step=steps["step"], floor=floor)


def least_units(
    groups: Sequence[ChannelGroup], table: SensitivityTable | None, tolerance: float
) -> list[int]:
    """Units of each group that a sensitivity table lets stay at least."""
    if table is None:
        return [1] * len(groups)
    if not isinstance(table, SensitivityTable) or table.method != "channels":
        got = getattr(table, "method", type(table).__name__)
        raise ValueError(
            "`sensitivity` must be what penjing.sensitivity(model, data, "
            f"method='channels') gave, got method={got!r}."
        )
    missing = [group.name for group in groups if group.name not in table.names]
    if missing:
        raise ValueError(
            f"`sensitivity` has no measurement of {missing[0]!r}; it has "
            f"{', '.join(table.names)}. Measure it too, or exclude it."
        )
    return [
        math.ceil(group.size * (1.0 - table.largest_ratio(group.name, tolerance)))
        for group in groups
    ]


def find_cut(
    model: keras.Model,
    target: ChannelTarget,
    search: CutSearch,
    costs: CutCosts,
    weight_bits: float = 8.0,
) -> KeptUnits:
    """Find the cut that reaches a target, no time, with the least loss."""
    if target.kind == "ratio":
        dropped = round(float(target.value) * search.units) - search.least
        if dropped > search.most:
            left = 1.0 - (search.most + search.least) / search.units
            raise _out_of_reach(target, 1.0, left)
        return search.kept(search.counts(max(dropped, 0)))
    cost, whole = _cost_of(target.kind, model, costs, weight_bits)
    return cut_within(search, cost, target.amount(whole), target, whole)


def cut_within(
    search: CutSearch, cost: Cost, limit: float, target: ChannelTarget, whole: float
) -> KeptUnits:
    """Find the cut of least loss whose cost is at most `limit`; whole it is `whole`."""
    found = search.within(cost, limit)
    if found is None:
        least = cost(search.kept(search.counts(search.most)))
        raise _out_of_reach(target, whole, least)
    return found


def _cost_of(
    kind: str, model: keras.Model, costs: CutCosts, weight_bits: float
) -> tuple[Cost, float]:
    """What a cut costs, and what the whole model does."""
    if kind == "flash":
        flash = functools.partial(flash_estimate, costs, weight_bits=weight_bits)
        return flash, flash({})
    if kind == "parameters":
        return costs.parameters, costs.parameters({})
    try:
        report = count_macs(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{error} For a cut to `macs` the model itself has to say them: make it "
            "with a keras.Input of known sizes, or cut by `ratio` or `parameters`."
        ) from error
    kernels = report.kernels
    products = _products_of_heads(model, report)
    fixed = report.macs - sum(kernels.values()) - sum(products.values())

    def macs(kept: KeptUnits) -> float:
        heads = sum(
            amount * costs.fractions(path, kept).get(0, 1.0)
            for path, amount in products.items()
        )
        return fixed + heads + costs.weighted(kernels, kept)

    return macs, float(report.macs)


def _products_of_heads(model: keras.Model, report: MacsReport) -> dict[str, int]:
    """Kernel after attention, whose first axis are the heads -> its products' MACs."""
    found: dict[str, int] = {}
    for layer in all_layers(model):
        if not isinstance(layer, _ATTENTION):
            continue
        rows = [row for row in report.rows if row.path.endswith(layer.path)]
        if len(rows) == 1:
            products = rows[0].macs - sum(rows[0].kernels.values())
            found[attention_parts(layer).output.kernel.path] = products
    return found


def _amount(value: float, target: ChannelTarget) -> str:
    form = ".4g" if target.kind == "latency" else ",.0f"
    return f"{value:{form}} {_WORDS[target.kind]}"


def _out_of_reach(target: ChannelTarget, whole: float, best: float) -> OutOfReachError:
    limits = (
        "Lower `round_to` or `min_channels`, raise `tolerance` where a `sensitivity` "
        "table is given, or let more layers be cut; "
        "penjing.channel_report(model) says why layers stay whole."
    )
    if target.kind == "ratio":
        most = math.floor(1000 * (1 - best) + 1e-6) / 1000
        return OutOfReachError(
            f"ratio={target.value} cannot be met: at most {most} of the channels can "
            f"go. {limits}",
            float(target.value) * (1.0 - best),
            argument=target.kind,
        )
    share = min(target.amount(whole) / whole, 1.0)
    least = math.ceil(1000 * best / whole) / 1000
    return OutOfReachError(
        f"{target.kind}={target.value} cannot be met: the best that can be reached is "
        f"{_amount(best, target)}, {least} of the model's "
        f"{_amount(whole, target)}. {limits}",
        math.ceil(best + share * (whole - best)),
        argument=target.kind,
    )
