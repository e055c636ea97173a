"""What tracing finds in a graph that is written down in a line."""

from __future__ import annotations

import keras
from keras import layers

from penjing.channels.groups import ChannelGroup
from penjing.channels.tracing import trace_channels


def groups_of(model: keras.Model) -> dict[str, ChannelGroup]:
    return {group.name: group for group in trace_channels(model).groups}


def units(group: ChannelGroup, path: str, axis: int) -> list[int]:
    """Unit at each position of an axis of a weight."""
    (member,) = [m for m in group.members if (m.path, m.axis) == (path, axis)]
    return member.units.tolist()


def between(change, shape=(5, 3), width=6, batch=None):
    """Dense "made", then `change`, then Dense "read" on what is flattened."""
    inputs = keras.Input(shape, batch_size=batch)
    x = change(layers.Dense(width, name="made")(inputs))
    return keras.Model(inputs, layers.Dense(2, name="read")(layers.Flatten()(x)))


def reasons(model: keras.Model) -> dict[str, str | None]:
    return {group.name: group.reason for group in trace_channels(model).groups}
