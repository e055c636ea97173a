"""Channel rules of what moves values: reshaping, joining, splitting, slicing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from penjing.channels.rules.trace import ChannelStep
from penjing.channels.rules.units import Channels, Layout, Whole


def trace_reshape(step: ChannelStep) -> Layout | list[Layout]:
    """Flatten and Reshape: each value keeps its unit.

    Where one axis becomes several, or several one, the units that this ties together
    fall together: of a Dense layer behind which (7, 7, 64) is made of 3136 channels,
    the 49 of each of the 64.
    """
    layout, out = step.layout, step.output_shapes[0]
    if isinstance(layout, Whole):
        return [layout]
    shape, target = _known_shapes(step.shape, out)
    if shape is None or target is None:
        return step.leave(f"sizes that {step.describe()} takes are unknown")
    place = [1] * len(shape)
    place[layout.axis - 1] = shape[layout.axis - 1]
    ids = np.broadcast_to(layout.ids.reshape(place), shape)
    if getattr(step.operation, "data_format", None) == "channels_first":
        ids = np.moveaxis(ids, 0, -1)  # as Flatten does
    ids = ids.reshape(target)
    axis = _axis_of(ids)
    if axis is None:
        axis = _preferred_axis(target)
        rows = np.moveaxis(ids, axis, 0).reshape(target[axis], -1)
        step.tie(rows[:, :1], rows)
    found = np.moveaxis(ids, axis, 0).reshape(target[axis], -1)[:, 0]
    _edit_target(step, axis + 1, found)
    return Channels(axis + 1, found)


def _known_shapes(
    shape: Sequence[int | None], out: Sequence[int | None]
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Shapes without the batch axis, a number put in for one unknown size."""
    rest, target = list(shape[1:]), list(out[1:])
    if rest.count(None) > 1 or target.count(None) > 1 or shape[0] != out[0]:
        return None, None
    if None in rest:
        rest[rest.index(None)] = math.prod(size for size in target if size)
    total = math.prod(size for size in rest if size)
    if None in target:
        known = math.prod(size for size in target if size)
        target[target.index(None)] = total // known
    full = tuple(map(int, rest)), tuple(map(int, target))  # type: ignore[arg-type]
    return full if math.prod(full[1]) == total else (None, None)


def _axis_of(ids: np.ndarray) -> int | None:
    """The axis that alone says the id of a value, the last one first."""
    for axis in reversed(range(ids.ndim)):
        rows = np.moveaxis(ids, axis, 0)
        rows = rows.reshape(len(rows), -1)
        if ids.shape[axis] > 1 and (rows == rows[:, :1]).all():
            return axis
    return ids.ndim - 1 if ids.size == 1 else None


def _preferred_axis(target: Sequence[int]) -> int:
    first = keras.config.image_data_format() == "channels_first" and len(target) > 2
    axis = 0 if first else len(target) - 1
    return axis if target[axis] > 1 else int(np.argmax(target))


def _edit_target(step: ChannelStep, axis: int, ids: np.ndarray) -> None:
    for key, first in (("target_shape", 1), ("newshape", 0)):
        shape = getattr(step.operation, key, None)
        if shape is not None and shape[axis - first] != -1:
            changed = list(shape)
            changed[axis - first] = ids
            step.edit(key, tuple(changed))


def trace_permute(step: ChannelStep) -> Layout | list[Layout]:
    """`Permute`: the axis moves."""
    return _permuted(step, [0, *step.operation.dims])


def trace_transpose(step: ChannelStep) -> Layout | list[Layout]:
    """`keras.ops.transpose`: the axis moves."""
    return _permuted(step, step.operation.axes or list(range(step.rank))[::-1])


def trace_swapped_axes(step: ChannelStep) -> Layout | list[Layout]:
    """`keras.ops.swapaxes`: the axis moves."""
    first, second = step.operation.axis1, step.operation.axis2
    order = list(range(step.rank))
    order[first], order[second] = order[second], order[first]
    return _permuted(step, order)


def _permuted(step: ChannelStep, order: Sequence[int]) -> Layout | list[Layout]:
    """Axis i of the output is axis `order[i]` of the input."""
    order = [axis % step.rank for axis in order]
    if order[0] != 0:
        return step.leave(f"{step.describe()} moves the batch axis")
    return _renumbered(step, [order.index(axis) for axis in range(step.rank)])


def trace_repeat_vector(step: ChannelStep) -> Layout:
    """`RepeatVector`: `(batch, channels)` -> `(batch, n, channels)`."""
    return _renumbered(step, [0, 2])


def trace_expand_dims(step: ChannelStep) -> Layout | list[Layout]:
    """`keras.ops.expand_dims`."""
    rank = step.rank + np.size(step.operation.axis)
    added = axes_of(step.operation.axis, rank)
    return _renumbered(step, [axis for axis in range(rank) if axis not in added])


def _renumbered(step: ChannelStep, places: Sequence[int]) -> Layout:
    """Axis i of the input is `places[i]` in the output."""
    layout = step.layout
    if isinstance(layout, Whole):
        return layout
    return Channels(places[layout.axis], layout.ids)


def trace_squeeze(step: ChannelStep) -> Layout | list[Layout]:
    """`keras.ops.squeeze`."""
    if step.operation.axis is None:
        return step.leave(f"{step.describe()} names no axis")
    return without_axes(step, axes_of(step.operation.axis, step.rank))


def trace_reduction(step: ChannelStep) -> Layout | list[Layout]:
    """Sums, means and extremes over other axes than the channels'."""
    layout, axes = step.layout, step.operation.axis
    gone = axes_of(axes, step.rank)
    if axes is None or (isinstance(layout, Channels) and layout.axis in gone):
        return step.leave(f"{step.describe()} reads all its channels at once")
    return layout if step.operation.keepdims else without_axes(step, gone)


def axes_of(named: int | Sequence[int] | None, rank: int) -> set[int]:
    """The axes that an operation names, from 0; none where it names none."""
    return {int(axis) % rank for axis in np.ravel([] if named is None else named)}


def without_axes(step: ChannelStep, gone: set[int]) -> Layout | list[Layout]:
    """The layout of the input when axes, numbered from 0, are taken out."""
    left = [axis for axis in range(step.rank) if axis not in gone]
    layout = step.layout
    if isinstance(layout, Whole):
        return layout
    if layout.axis in gone:
        return step.leave(f"{step.describe()} takes out the axis of its channels")
    return Channels(left.index(layout.axis), layout.ids)


def trace_concatenate(step: ChannelStep) -> Layout | list[Layout]:
    """Concatenation: along the channels their ids in a row, else they are tied."""
    axis = step.operation.axis % len(step.output_shapes[0])
    found = {part.axis for part in step.layouts if isinstance(part, Channels)}
    obstacle = _joining_obstacle(step, found)
    if obstacle or not found:
        return step.leave(obstacle) if obstacle else step.layout
    if axis not in found:
        return _tie_parts(step, found.pop())
    sizes = [shape[axis] or 0 for shape in step.shapes]
    if 0 in sizes:
        return step.leave(f"sizes that {step.describe()} takes are unknown")
    parts = [
        part.ids if isinstance(part, Channels) else step.constant(size, part.reason)
        for part, size in zip(step.layouts, sizes, strict=True)
    ]
    return Channels(axis, np.concatenate(parts))


def trace_stack(step: ChannelStep) -> Layout | list[Layout]:
    """`keras.ops.stack`: the tensors are tied, their axis moves."""
    axis = step.operation.axis % len(step.output_shapes[0])
    found = {part.axis for part in step.layouts if isinstance(part, Channels)}
    obstacle = _joining_obstacle(step, found)
    if obstacle or not found:
        return step.leave(obstacle) if obstacle else step.layout
    (place,) = found
    return _tie_parts(step, place + (axis <= place))


def _joining_obstacle(step: ChannelStep, axes: set[int]) -> str | None:
    """Why tensors with channels on these axes cannot be followed when joined."""
    if axes and len(keras.tree.flatten(step.arguments[0])) != len(step.tensors):
        return f"{step.describe()} takes a constant array"
    if len(axes) > 1:
        return f"{step.describe()} joins tensors with different channel axes"
    return None


def _tie_parts(step: ChannelStep, axis: int) -> Layout:
    """Tie tensors whose channels lie on the same axis, place by place."""
    whole = [part for part in step.layouts if isinstance(part, Whole)]
    if whole:
        step.leave(step.joined(whole[0].reason))
        return whole[0]
    first, *others = (part.ids for part in step.layouts if isinstance(part, Channels))
    for ids in others:
        step.tie(first, ids)
    return Channels(axis, first)


def trace_split(step: ChannelStep) -> list[Layout]:
    """`keras.ops.split`: parts of the ids; equal parts stay equal."""
    layout, operation = step.layout, step.operation
    axis = operation.axis % step.rank
    parts = len(step.output_shapes)
    if isinstance(layout, Whole) or layout.axis != axis:
        return [layout] * parts
    where = operation.indices_or_sections
    pieces = np.split(layout.ids, where)
    if isinstance(where, int):
        for piece in pieces[1:]:
            step.tie(pieces[0], piece)
    else:
        step.edit("indices_or_sections", tuple(layout.ids[:end] for end in where))
    return [Channels(axis, piece) for piece in pieces]


def trace_item(step: ChannelStep) -> Layout | list[Layout]:
    """Slices such as `x[..., :32]`."""
    positional, named = step.arguments
    key = positional[1] if len(positional) > 1 else named["key"]
    layout = step.layout
    if isinstance(layout, Whole):
        return layout
    entries = _full_key(key, step.rank)
    if entries is None or len(positional) < 2:
        return step.leave(f"the slice {key!r} cannot be followed")
    entry = entries[layout.axis]
    if not isinstance(entry, slice) or entry.step not in (None, 1):
        return step.leave(f"the slice {key!r} picks single channels")
    start, stop, _ = entry.indices(len(layout.ids))
    if (start, stop) != (0, len(layout.ids)):
        kept = slice(layout.ids[:start], layout.ids[:stop])
        changed = [*entries[: layout.axis], kept, *entries[layout.axis + 1 :]]
        step.edit_argument(1, tuple(changed))
    gone = sum(isinstance(entry, int) for entry in entries[: layout.axis])
    return Channels(layout.axis - gone, layout.ids[start:stop])


def _full_key(key: Any, rank: int) -> list[Any] | None:
    """One slice or integer for each axis; `None` for keys with anything else."""
    entries = list(key) if isinstance(key, tuple | list) else [key]
    if any(not isinstance(e, int | slice | type(Ellipsis)) for e in entries):
        return None
    if Ellipsis not in entries:
        entries.append(Ellipsis)
    at = entries.index(Ellipsis)
    missing = rank - len(entries) + 1
    return [*entries[:at], *[slice(None)] * missing, *entries[at + 1 :]]


def trace_pad(step: ChannelStep) -> Layout | list[Layout]:
    """`keras.ops.pad`: padded channels are constants that stay."""
    layout, widths = step.layout, step.operation.pad_width
    if isinstance(layout, Whole):
        return layout
    before, after = widths[0] if len(widths) == 1 else widths[layout.axis]
    if not before and not after:
        return layout
    if step.operation.mode != "constant":
        return step.leave(f"{step.describe()} mirrors channels")
    reason = f"{step.describe()} adds constant channels"
    parts = [step.constant(before, reason), layout.ids, step.constant(after, reason)]
    return Channels(layout.axis, np.concatenate(parts))
