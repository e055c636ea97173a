"""How many channels each layer has, had, and why some cannot lose any."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from penjing.channels.groups import ChannelGroup
from penjing.channels.tracing import ChannelGraph, trace_channels
from penjing.errors import UnsupportedModelError
from penjing.json_values import JsonValue
from penjing.measurement.macs import count_macs
from penjing.text_table import text_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelRow(JsonValue):
    """One group of channels that fall together, or a layer that stays whole.

    Attributes:
        group: Name of the group, the path of the first layer that makes it.
        layers: Paths of the layers that make it.
        before: Units of the first model: channels, heads or convolution groups.
        after: Units of the second model; the same where only one was given.
        reason: Why it stays whole, else empty.
    """

    group: str
    layers: tuple[str, ...]
    before: int
    after: int
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelReport(JsonValue):
    """What `channel_report` found; printed, it is a table.

    Attributes:
        rows: One for each group and for each layer that stays whole.
        macs: Multiply-accumulates before and after; None where sizes are left free.
        parameters: Parameters before and after.
    """

    rows: tuple[ChannelRow, ...]
    macs: tuple[int, int] | None
    parameters: tuple[int, int]

    def __str__(self) -> str:
        """A table with one line for each group."""
        rows = [
            ("group", "before", "after", ""),
            *((r.group, str(r.before), str(r.after), r.reason) for r in self.rows),
        ]
        lines = [text_table(rows, "<5", ">7", ">6", "<")]
        if self.macs is not None:
            lines.append(_ratio("multiply-accumulates", *self.macs))
        lines.append(_ratio("parameters", *self.parameters))
        return "\n".join(lines)


def channel_report(
    model: keras.Model, smaller: keras.Model | None = None
) -> ChannelReport:
    """Say how many channels each group has, and why layers stay whole.

    Args:
        model: A built, plain Sequential or Functional model.
        smaller: What `penjing.prune_channels` made of it, trained further or not;
            None reports one model alone, before anything is cut.

    Returns:
        One row for each group of channels.

    Raises:
        UnsupportedModelError: If channels cannot be followed in a model, or the second
            one was not made from the first.

    Example:
        >>> import keras, penjing
        >>> model = keras.Sequential([keras.Input((8,)),
        ...     keras.layers.Dense(32, name="hidden"), keras.layers.Dense(2)])
        >>> smaller = penjing.prune_channels(model, ratio=0.5)
        >>> row = penjing.channel_report(model, smaller).rows[0]
        >>> row.before, row.after
        (32, 16)
    """
    first = trace_channels(model)
    smaller = model if smaller is None else smaller
    # A model that was loaded has its weights in the same order, at other paths.
    pairs = zip(model.weights, smaller.weights, strict=False)
    shapes = {own.path: tuple(twin.shape) for own, twin in pairs}
    rows = []
    traced = functools.cache(lambda: _traced_sizes(model, smaller))
    for group in first.groups:
        after = _sizes_in(shapes, group, first.groups)
        if not after:  # no axis has all of its units
            after = {traced()[p] for p in _made_by(group) if p in traced()}
        if len(after) != 1 or not 1 <= max(after) <= group.size:
            raise UnsupportedModelError(
                f"{smaller.name!r} was not made from {model.name!r}: the channels of "
                f"{group.name!r} are {group.size} in one and "
                f"{sorted(after) or 'missing'} in the other."
            )
        rows.append(
            ChannelRow(
                group=group.name,
                layers=group.layers,
                before=group.size,
                after=after.pop(),
                reason=group.reason or "",
            )
        )
    return ChannelReport(
        rows=(*rows, *_skipped_rows(first)),
        macs=_both_macs(model, smaller),
        parameters=(model.count_params(), smaller.count_params()),
    )


def _sizes_in(
    shapes: Mapping[str, tuple[int, ...]],
    group: ChannelGroup,
    groups: Sequence[ChannelGroup],
) -> set[int]:
    """How many units of a group the weights of the twin, by their shapes, have left.

    One number, where it was made from the model. What counts are axes with all units of
    the group, each at as many positions, and none of another group; there may be none.
    """
    sharing = Counter((m.path, m.axis) for g in groups for m in g.members)
    found = set()
    for member in group.members:
        positions = member.units[member.units >= 0]
        each = np.unique(np.bincount(positions, minlength=group.size))
        shape = shapes.get(member.path, ())
        is_alone = sharing[member.path, member.axis] == 1
        if is_alone and len(each) == 1 and each[0] and member.axis < len(shape):
            left = shape[member.axis] - (len(member.units) - len(positions))
            whole, rest = divmod(left, int(each[0]))
            found.add(0 if rest else whole)  # 0: it is of another model
    return found


def _traced_sizes(
    model: keras.Model, smaller: keras.Model
) -> dict[tuple[str | None, int], int]:
    """Sizes of the twin's own groups, by the model's weights that make them."""
    graph = trace_channels(smaller)
    pairs = zip(graph.model.weights, model.weights, strict=False)
    paths = {own.path: twin.path for own, twin in pairs}
    return {
        (paths.get(path), axis): group.size
        for group in graph.groups
        for path, axis in _made_by(group)
    }


def _made_by(group: ChannelGroup) -> list[tuple[str, int]]:
    """Weights that make the channels of a group, and their axes."""
    return [(m.path, m.axis) for m in group.members if m.role == "output"]


def _skipped_rows(graph: ChannelGraph) -> list[ChannelRow]:
    """Layers that are left whole and belong to no group."""
    known = {path for group in graph.groups for path in group.layers}
    return [
        ChannelRow(group=path, layers=(path,), before=0, after=0, reason=reason)
        for path, reason in graph.skipped
        if path not in known
    ]


def _both_macs(before: keras.Model, after: keras.Model) -> tuple[int, int] | None:
    try:
        return count_macs(before).macs, count_macs(after).macs
    except UnsupportedModelError:
        return None


def _ratio(name: str, before: int, after: int) -> str:
    return f"{name}: {before:,} -> {after:,} ({after / max(before, 1):.1%})"
