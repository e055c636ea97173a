"""Layers cut alone, one after the other: units silenced, or weights set to zero."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from penjing.channels.choice import choose_groups
from penjing.channels.groups import ChannelGroup
from penjing.channels.scores import ChannelImportance, score_channels
from penjing.channels.tracing import trace_channels
from penjing.measurement.sensitivity_table import SensitivityRow
from penjing.models.copying import float_value
from penjing.models.selection import Filter, SelectedWeight, select_weights


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CutTrial:
    """Values, by path of a weight, to write into a twin before it is measured.

    The row has no scores yet. `gone` are units; empty where that follows from the
    weights.
    """

    row: SensitivityRow
    values: Callable[[], dict[str, np.ndarray]]
    gone: str = ""


def channel_trials(
    model: keras.Model,
    ratios: Sequence[float],
    importance: ChannelImportance,
    include: Filter,
    exclude: Filter,
    data: Any,
) -> tuple[list[CutTrial], dict[str, str]]:
    """Units silenced wherever they are read."""
    graph = trace_channels(model)
    groups = choose_groups(graph, include, exclude)
    scores = score_channels(model, groups, importance, data)
    variables = {v.path: v for v in model.weights}
    trials = []
    for group in groups:
        order = np.argsort(scores[group.name], kind="stable")
        for ratio in ratios:
            removed = min(round(ratio * group.size), group.size - 1)
            gone = np.zeros(group.size + 1, bool)  # -1, for no unit, is the last one
            gone[order[:removed]] = True
            trials.append(
                CutTrial(
                    row=SensitivityRow(
                        name=group.name, ratio=ratio, removed=removed, size=group.size
                    ),
                    values=functools.partial(_silenced, group, gone, variables),
                    gone=np.packbits(gone).tobytes().hex(),
                )
            )
    return trials, dict(graph.skipped)


def _silenced(
    group: ChannelGroup, gone: np.ndarray, variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The weights that read a group, with zeros for the units that go."""
    changed: dict[str, np.ndarray] = {}
    for member in group.members:
        if member.role == "input":
            if member.path not in changed:
                changed[member.path] = float_value(variables[member.path]).copy()
            value = np.moveaxis(changed[member.path], member.axis, 0)
            value[gone[member.units]] = 0
    return changed


def weight_trials(
    model: keras.Model,
    ratios: Sequence[float],
    importance: ChannelImportance,
    include: Filter,
    exclude: Filter,
    data: Any,
) -> tuple[list[CutTrial], dict[str, str]]:
    """Weights of the lowest magnitude set to zero."""
    selection = select_weights(model, include, exclude)
    trials = [
        CutTrial(
            row=SensitivityRow(
                name=weight.path,
                ratio=ratio,
                removed=round(ratio * weight.size),
                size=weight.size,
            ),
            values=functools.partial(_cleared, weight, round(ratio * weight.size)),
        )
        for weight in selection.chosen
        for ratio in ratios
    ]
    return trials, dict(selection.skipped)


def _cleared(weight: SelectedWeight, count: int) -> dict[str, np.ndarray]:
    """A weight with zeros for its lowest magnitudes."""
    value = float_value(weight.variable).copy()
    lowest = np.argsort(np.abs(value), axis=None, kind="stable")[:count]
    value.reshape(-1)[lowest] = 0
    return {weight.path: value}
