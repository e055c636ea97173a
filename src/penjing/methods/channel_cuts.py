"""From scores and a target to the units that stay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np

from penjing.errors import CompressionError
from penjing.measurement.macs import count_macs
from penjing.methods.channel_costs import CutCosts
from penjing.methods.channel_search import (
    Candidates,
    Cost,
    CutSearch,
    KeptUnits,
    units_in_steps,
)
from penjing.methods.channel_target import ChannelTarget
from penjing.methods.sensitivity_table import SensitivityTable
from penjing.models.channel_groups import ChannelGroup
from penjing.numerics.channel_importance import Scores

_WORDS = {
    "macs": "multiply-accumulates",
    "parameters": "parameters",
    "latency": "milliseconds",
}


def as_candidates(
    group: ChannelGroup, scores: Scores, round_to: int, min_channels: int, least: int
) -> Candidates:
    """The units of a group, and how many may stay.

    Every layer that makes some keeps its best one.

    Args:
        group: The group.
        scores: What its units are worth.
        round_to: Channels that stay are a multiple of it.
        min_channels: Channels that stay at least.
        least: Units that stay at least.
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
    """Units of each group that a sensitivity table lets stay at least.

    Args:
        groups: The groups that are cut.
        table: What was measured; None leaves them free.
        tolerance: What a single group's cut may have cost.

    Raises:
        ValueError: If the table is of weights, or lacks a group.
    """
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
    model: keras.Model, target: ChannelTarget, search: CutSearch, costs: CutCosts
) -> KeptUnits:
    """Find the cut that reaches a target with the least loss.

    Args:
        model: The model.
        target: Channels, multiply-accumulates or parameters.
        search: The cuts that the ranking allows.
        costs: Sizes after a cut.

    Returns:
        Group name -> which units stay.

    Raises:
        CompressionError: If the target cannot be met; it says what can.
    """
    if target.kind == "ratio":
        dropped = round(float(target.value) * search.units)
        if dropped > search.most:
            raise _out_of_reach(target, 1.0, 1.0 - search.most / search.units)
        return search.kept(search.counts(dropped))
    cost, whole = _cost_of(target.kind, model, costs)
    return cut_within(search, cost, target.amount(whole), target, whole)


def cut_within(
    search: CutSearch, cost: Cost, limit: float, target: ChannelTarget, whole: float
) -> KeptUnits:
    """Find the cut of least loss whose cost is at most `limit`.

    Args:
        search: The cuts that the ranking allows.
        cost: Cost of a cut.
        limit: The highest cost.
        target: What was asked for, for the message.
        whole: Cost of the whole model.

    Raises:
        CompressionError: If there is none; it says the least cost.
    """
    found = search.within(cost, limit)
    if found is None:
        least = cost(search.kept(search.counts(search.most)))
        raise _out_of_reach(target, whole, least)
    return found


def _cost_of(kind: str, model: keras.Model, costs: CutCosts) -> tuple[Cost, float]:
    """What a cut costs, and what the whole model does."""
    if kind == "parameters":
        return costs.parameters, costs.parameters({})
    report = count_macs(model)
    kernels = report.kernels
    fixed = report.macs - sum(kernels.values())
    return lambda kept: fixed + costs.weighted(kernels, kept), float(report.macs)


def _out_of_reach(target: ChannelTarget, whole: float, best: float) -> CompressionError:
    limits = (
        "Lower `round_to` or `min_channels`, or let more layers be cut; "
        "penjing.channel_report(model) says why layers stay whole."
    )
    if target.kind == "ratio":
        return CompressionError(
            f"ratio={target.value} would empty layers: at most {1 - best:.3f} of the "
            "channels can go, for each group keeps at least one multiple of "
            f"`round_to`. {limits}"
        )
    return CompressionError(
        f"{target.kind}={target.value} cannot be met: the best that can be reached is "
        f"{best:,.6g} {_WORDS[target.kind]}, {best / whole:.3f} of the model's "
        f"{whole:,.6g}. {limits}"
    )
