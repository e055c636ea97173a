"""Groups of channels that fall together, as numbers and in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from penjing.channels.rules.trace import ChannelTrace
from penjing.channels.rules.units import connect
from penjing.numerics.channel_importance import UnitSlices

_KERNELS = ("output", "input", "through", "scale")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GroupMember:
    """One axis of one variable that the units of a group lie on.

    Args:
        path: Keras path of the variable.
        axis: Its axis, from 0.
        units: Unit of the group at each position, `(shape[axis],)`, int32; -1 where
            the position belongs to another group, or stays.
        role: `"output"` for kernels and biases that make the channels, `"input"` for
            kernels that sum them up, `"scale"`, `"offset"` and `"statistic"` of
            normalizations, `"through"` for what handles each channel by itself.
    """

    path: str
    axis: int
    units: np.ndarray
    role: str

    @property
    def is_bias(self) -> bool:
        """Whether the variable is added, in which case its size says little."""
        return self.path.endswith("bias")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ChannelGroup:
    """Units of channels that layers make together.

    A unit is what falls as a whole: a channel, with all that is added to it; a head of
    attention; a group of a grouped convolution.

    Args:
        name: Path of the first layer that makes them.
        size: Number of units.
        width: Channels of one unit: more than 1 for heads and convolution groups.
        layers: Paths of all layers that make them.
        members: Where in the weights they lie.
        reason: Why all of them stay; `None` where they can go.
    """

    name: str
    size: int
    width: int
    layers: tuple[str, ...]
    members: tuple[GroupMember, ...]
    reason: str | None


def kernels_of(
    group: ChannelGroup, roles: Sequence[str] = _KERNELS
) -> list[GroupMember]:
    """Kernels and scales of a group; biases and statistics are none."""
    return [m for m in group.members if m.role in roles and not m.is_bias]


def unit_slices(
    members: Iterable[GroupMember], values: Mapping[str, np.ndarray]
) -> list[UnitSlices]:
    """Values by path, cut into the units of a group."""
    return [
        UnitSlices(values=values[m.path], axis=m.axis, units=m.units) for m in members
    ]


def divide_channels(
    trace: ChannelTrace, labels: np.ndarray, why: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the ids of a trace into groups, and each group into units.

    What one layer makes is one group. Where a part of a group must stay, the group
    is the rest. Labels are the same for ids that fall together; `why` holds the index
    of the reason why an id must stay, -1 where it may go. Gives the number of the group
    and of the unit of each id, -1 where it belongs to none.
    """
    ties = [
        (labels[ids[:1]].repeat(len(ids)), labels[ids]) for _, ids in trace.producers
    ]
    together = connect(len(labels), ties)[labels]
    made = np.zeros(len(labels), dtype=bool)
    for _, ids in trace.producers:
        made[labels[ids]] = True
    made = made[labels]
    some_free = np.zeros(len(labels), dtype=bool)
    some_free[together[made & (why < 0)]] = True
    belongs = made & ((why < 0) | ~some_free[together])
    group_of, unit_of = np.full(len(labels), -1), np.full(len(labels), -1)
    names, group_of[belongs] = np.unique(together[belongs], return_inverse=True)
    units, places, ranks = np.unique(
        labels[belongs], return_index=True, return_inverse=True
    )
    groups = group_of[belongs][places]
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(len(names)))
    within = np.empty(len(units), dtype=int)
    within[order] = np.arange(len(units)) - starts[groups[order]]
    unit_of[belongs] = within[ranks]
    return group_of, unit_of


def describe_groups(
    trace: ChannelTrace,
    group_of: np.ndarray,
    unit_of: np.ndarray,
    why: np.ndarray,
    reasons: list[str],
) -> tuple[ChannelGroup, ...]:
    """The groups that `divide_channels` numbered, in the order of the model.

    `why` holds an index into the reasons for each id, -1 where it may go.
    """
    count = int(group_of.max(initial=-1)) + 1
    layers: list[dict[str, None]] = [{} for _ in range(count)]
    members: list[list[GroupMember]] = [[] for _ in range(count)]
    widths: list[list[int]] = [[] for _ in range(count)]
    for path, ids in trace.producers:
        for number in _numbers(group_of[ids]):
            made = unit_of[ids][group_of[ids] == number]
            widths[number].append(int(np.bincount(made).max()))
            layers[number].setdefault(path)
    seen: dict[tuple[int, int], np.ndarray] = {}
    for traced in trace.axes.values():
        groups = group_of[traced.ids]
        for number in _numbers(groups):
            key = id(traced.ids), number
            if key not in seen:
                units = np.where(groups == number, unit_of[traced.ids], -1)
                seen[key] = units.astype("int32")
            members[number].append(
                GroupMember(
                    path=traced.variable.path,
                    axis=traced.axis,
                    units=seen[key],
                    role=traced.role,
                )
            )
    sizes = np.zeros(count, dtype=int)
    np.maximum.at(sizes, group_of[group_of >= 0], unit_of[group_of >= 0] + 1)
    first = np.full(count + 1, -1)  # the last place is for ids of no group
    first[group_of[::-1]] = why[::-1]
    return tuple(
        ChannelGroup(
            name=next(iter(layers[number])),
            size=int(sizes[number]),
            width=min(widths[number]),
            layers=tuple(layers[number]),
            members=tuple(members[number]),
            reason=reasons[first[number]] if first[number] >= 0 else None,
        )
        for number in range(count)
    )


def _numbers(groups: np.ndarray) -> list[int]:
    return [int(number) for number in np.unique(groups) if number >= 0]
