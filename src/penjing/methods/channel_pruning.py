"""Channel pruning: a smaller model, from which whole channels are gone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from penjing.errors import CompressionError
from penjing.measurement.macs import count_macs
from penjing.methods.channel_choice import choose_groups
from penjing.methods.channel_costs import CutCosts
from penjing.methods.channel_scores import (
    ChannelImportance,
    check_importance,
    score_channels,
)
from penjing.methods.channel_search import (
    Candidates,
    Cost,
    CutSearch,
    KeptUnits,
    units_in_steps,
)
from penjing.methods.channel_target import ChannelTarget
from penjing.models.channel_constants import fold_constant_channels
from penjing.models.channel_graph import ChannelGroup, trace_channels
from penjing.models.channel_removal import remove_channels
from penjing.models.config_checks import check_choice, check_integer
from penjing.models.selection import Filter
from penjing.numerics.channel_importance import Scores

_WORDS = {
    "macs": "multiply-accumulates",
    "parameters": "parameters",
    "latency": "milliseconds",
}


def prune_channels(
    model: keras.Model,
    *,
    ratio: float | None = None,
    macs: float | int | None = None,
    parameters: float | int | None = None,
    latency: float | str | None = None,
    importance: ChannelImportance = "l2",
    scope: str = "global",
    round_to: int = 8,
    min_channels: int = 1,
    include: Filter = None,
    exclude: Filter = None,
    data: Any = None,
) -> keras.Model:
    """Remove whole channels: a new, plain, smaller Keras model.

    What falls together falls together: a channel with all that is added to it, whole
    heads of attention, whole groups of grouped convolutions. Layers whose channels
    cannot be followed stay whole; `penjing.channel_report` names them with the reason.
    What removed units add to their readers is lost, but for units that give the same
    value for every input, as after group lasso: that goes into the readers' biases.
    The smaller model has the surviving weights and trains on, saves and exports as any
    other. Compile it and train it: accuracy comes back.

    Exactly one of the first four arguments says how much is cut.

    Args:
        model: A built, plain Sequential or Functional model. It is left alone.
        ratio: Fraction of the channels that go, of those that can: 0.3 removes about
            30 %, as near as `round_to` allows.
        macs: Multiply-accumulates that stay, at most: a fraction between 0 and 1 of the
            model's, or an integer, which is a number of them. 0.5 keeps half.
        parameters: The same for the numbers in all weights.
        latency: The same for the time: a fraction of the model's, or "0.5 ms".
        importance: Which channels stay: `"l2"`, the norm of all weights that fall with
            one; `"batch_norm"`, the scales of its normalizations; `"taylor"`, what the
            loss changes by without it (needs `data` and a compiled loss); `"lamp"`;
            `"activation_variance"` (needs `data`); `"random"` (a control); a function
            of (group, weights by path) to scores; or a mapping from group names to
            scores. Scores have the shape `(group.size,)` and are at least 0.
        scope: `"global"`: all channels compete, layers that matter less give more;
            `"layer"`: every group gives the same fraction.
        round_to: Channels that stay are a multiple of it, in groups that have more:
            kernels run in blocks of 8. 1 allows every number.
        min_channels: Channels that stay in each group, at least.
        include: What to cut: layers, or patterns matched against layer paths and names
            (`"conv*"`). Default: all that can be.
        exclude: What to leave whole, in the same form; wins over `include`.
        data: `(x, y)` or a loader, for importances that look at data.

    Returns:
        A new uncompiled model.

    Raises:
        UnsupportedModelError: If the model is subclassed, not built or compressed, or a
            named layer cannot be cut.
        CompressionError: If the target cannot be met; it says what can.
        DataError: If data is needed and missing, or does not fit.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, penjing
        >>> model = keras.Sequential([keras.Input((28, 28, 1)),
        ...     keras.layers.Conv2D(32, 3), keras.layers.Flatten(),
        ...     keras.layers.Dense(10)])
        >>> smaller = penjing.prune_channels(model, ratio=0.5)
        >>> smaller.layers[0].filters
        16
    """
    target = ChannelTarget(
        ratio=ratio, macs=macs, parameters=parameters, latency=latency
    )
    check_importance(importance)
    check_choice("scope", scope, ("global", "layer"))
    check_integer("round_to", round_to, least=1)
    check_integer("min_channels", min_channels, least=1)
    graph = trace_channels(model)
    groups = choose_groups(graph, include, exclude)
    scores = score_channels(model, groups, importance, data)
    candidates = [
        _candidates(group, scores[group.name], round_to, min_channels)
        for group in groups
    ]
    costs = CutCosts(model, graph)
    kept = _find_cut(model, target, CutSearch(candidates, scope), costs)
    folded = fold_constant_channels(model, graph, kept)
    if folded is not model:
        graph = trace_channels(folded)
    return remove_channels(folded, graph, kept)


def _candidates(
    group: ChannelGroup, scores: Scores, round_to: int, min_channels: int
) -> Candidates:
    """The units of a group; every layer that makes some keeps its best one."""
    scores = scores.copy()
    reserved: set[int] = set()
    for member in group.members:
        units = np.unique(member.units[member.units >= 0])
        if len(units) and reserved.isdisjoint(units.tolist()):
            reserved.add(int(units[np.argmax(scores[units])]))
    scores[sorted(reserved)] = np.inf
    return Candidates(
        name=group.name,
        scores=scores,
        **units_in_steps(
            group.size, _width(group), round_to, max(min_channels, len(reserved))
        ),
    )


def _width(group: ChannelGroup) -> int:
    """Channels of one unit."""
    found = [
        int(np.bincount(member.units[member.units >= 0]).max())
        for member in group.members
        if member.role == "output"
    ]
    return min(found, default=1)


def _find_cut(
    model: keras.Model, target: ChannelTarget, search: CutSearch, costs: CutCosts
) -> KeptUnits:
    if target.kind == "ratio":
        dropped = round(float(target.value) * search.units)
        if dropped > search.most:
            raise _out_of_reach(target, 1.0, 1.0 - search.most / search.units)
        return search.kept(search.counts(dropped))
    cost, whole = _cost_of(target.kind, model, costs)
    found = search.within(cost, target.amount(whole))
    if found is None:
        raise _out_of_reach(
            target, whole, cost(search.kept(search.counts(search.most)))
        )
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
