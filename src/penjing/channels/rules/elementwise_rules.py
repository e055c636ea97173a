"""Channel rules of what handles each channel by itself, and of normalizations."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from penjing.channels.rules.dense_rules import channel_axis
from penjing.channels.rules.mixing_activations import is_elementwise
from penjing.channels.rules.shape_rules import axes_of, without_axes
from penjing.channels.rules.trace import ChannelStep
from penjing.channels.rules.units import Channels, Layout, Whole


def trace_elementwise(step: ChannelStep) -> Layout | list[Layout]:
    """Operations on each value, of one tensor or of several that are broadcast.

    Channels at the same places fall together. A tensor with one channel for all of
    another's keeps it.
    """
    rank = len(step.output_shapes[0])
    shapes = [(1,) * (rank - len(shape)) + tuple(shape) for shape in step.shapes]
    aligned = [
        Channels(part.axis + rank - len(shape), part.ids)
        if isinstance(part, Channels)
        else part
        for part, shape in zip(step.layouts, step.shapes, strict=True)
    ]
    found = [part for part in aligned if isinstance(part, Channels)]
    if not found:
        return aligned[0]
    main = max(found, key=lambda part: len(part.ids))
    obstacle = _constant_obstacle(step, main, rank)
    for part, shape in zip(aligned, shapes, strict=True):
        if shape[main.axis] == 1 and len(main.ids) != 1:
            step.pin(part, f"{step.describe()} spreads it over many channels")
        elif isinstance(part, Channels) and part.axis == main.axis:
            step.tie(main.ids, part.ids)
        elif isinstance(part, Whole):
            obstacle = obstacle or step.joined(part.reason)
        else:
            obstacle = f"{step.describe()} joins tensors with different channel axes"
    return step.leave(obstacle) if obstacle else main


def _constant_obstacle(step: ChannelStep, main: Channels, rank: int) -> str | None:
    positional, named = step.arguments
    for value in [*positional, *named.values()]:
        parts = keras.tree.flatten(value)
        if any(isinstance(part, keras.KerasTensor) for part in parts):
            continue
        own = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
        shape = (1,) * (rank - len(own)) + own
        if len(shape) > rank or shape[main.axis] != 1:
            return f"{step.describe()} takes a constant array over its channels"
    return None


def trace_merge(step: ChannelStep) -> Layout | list[Layout]:
    """Merging layers: as operations on each value, but of tensors of one rank."""
    if len({len(shape) for shape in step.shapes}) > 1:
        return step.leave(f"{step.describe()} joins tensors of different ranks")
    return trace_elementwise(step)


def trace_unchanged(step: ChannelStep) -> Layout:
    """Layers that handle each value by itself, and take one tensor."""
    return step.layout


def trace_activation(step: ChannelStep) -> Layout | list[Layout]:
    """`Activation`: passes channels that its function does not mix."""
    if is_elementwise(step.operation.activation):
        return step.layout
    name = getattr(step.operation.activation, "__name__", "of its own")
    return step.leave(f"the activation {name!r} mixes its channels")


def trace_rescaling(step: ChannelStep) -> Layout | list[Layout]:
    """`Rescaling` by numbers; one for each channel would have to lose some."""
    layer = step.operation
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        return step.leave(f"{step.describe()} has a factor for each channel")
    return step.layout


def trace_spatial(step: ChannelStep) -> Layout | list[Layout]:
    """Pooling, padding, cropping, resizing: along all axes but the channels'."""
    if isinstance(step.layout, Whole) or step.ids_on(channel_axis(step)) is not None:
        return step.layout
    return step.leave(step.reason)


def trace_global_pooling(step: ChannelStep) -> Layout | list[Layout]:
    """Global pooling: the axes between batch and channels go."""
    layout = trace_spatial(step)
    if step.operation.keepdims or not isinstance(layout, Channels):
        return layout
    return without_axes(step, set(range(1, step.rank)) - {layout.axis})


def trace_dropout(step: ChannelStep) -> Layout | list[Layout]:
    """`Dropout`: with a shape of its own noise along the channels they stay."""
    shape = getattr(step.operation, "noise_shape", None)
    layout = step.layout
    if shape is None or isinstance(layout, Whole) or shape[layout.axis] in (None, 1):
        return layout
    return step.leave(f"`noise_shape` of {step.describe()} is fixed")


def trace_along(step: ChannelStep) -> Layout | list[Layout]:
    """What mixes values along `axis`: softmax, normalizations by statistics over it."""
    layout, axes = step.layout, step.operation.axis
    mixes = axes is None or step.named_arguments.get("mask") is not None
    if isinstance(layout, Channels):
        mixes = mixes or layout.axis in axes_of(axes, step.rank)
    return step.leave(f"{step.describe()} mixes its channels") if mixes else layout


def trace_batch_normalization(step: ChannelStep) -> Layout | list[Layout]:
    """`BatchNormalization`: statistics, scale and offset of each channel."""
    layer = step.operation
    return _carry_weights(
        step,
        step.ids_on(layer.axis),
        ("scale", layer.gamma),
        ("offset", layer.beta),
        ("statistic", layer.moving_mean),
        ("statistic", layer.moving_variance),
    )


def trace_group_normalization(step: ChannelStep) -> Layout | list[Layout]:
    """`GroupNormalization`: whole groups fall; each channel where it is a group."""
    layer = step.operation
    ids = step.ids_on(layer.axis)
    if ids is not None:
        if layer.groups == 1:
            return step.leave(f"{step.describe()} normalizes over its channels")
        groups = ids.reshape(layer.groups, -1)
        step.tie(groups[:, :1], groups)
        step.edit("groups", groups[:, 0])
    weights = (("scale", layer.gamma), ("offset", layer.beta))
    return _carry_weights(step, ids, *weights)


def _carry_weights(
    step: ChannelStep, ids: np.ndarray | None, *weights: tuple[str, Any]
) -> Layout | list[Layout]:
    """Vectors with a value for each channel; whole where these lie elsewhere."""
    for role, variable in weights:
        if ids is not None:
            step.carry(variable, 0, ids, role)
        else:
            step.trace.keep_axis(variable, 0, step.reason)
    return step.layout if ids is not None else step.leave(step.reason)


def trace_prelu(step: ChannelStep) -> Layout:
    """`PReLU`: a slope for each channel, unless they share one."""
    layer, layout = step.operation, step.layout
    if isinstance(layout, Whole):
        step.trace.keep_axes(layer.alpha, layout.reason)
    elif layer.alpha.shape[layout.axis - 1] > 1:
        step.carry(layer.alpha, layout.axis - 1, layout.ids, "through")
    return layout


def trace_layer_scale(step: ChannelStep) -> Layout | list[Layout]:
    """ConvNeXt's `LayerScale`: a factor for each channel of the last axis."""
    ids = step.ids_on(step.rank - 1)
    if ids is not None:
        step.edit("projection_dim", ids)
    return _carry_weights(step, ids, ("scale", step.operation.gamma))
