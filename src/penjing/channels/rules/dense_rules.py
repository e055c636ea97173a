"""Channel rules of layers that make new channels: Dense, convolutions, Embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from penjing.channels.rules.mixing_activations import is_elementwise
from penjing.channels.rules.trace import ChannelStep
from penjing.channels.rules.units import Channels, Layout, Whole


def trace_dense(step: ChannelStep) -> Layout:
    """`Dense`: sums up the last axis and makes a new one."""
    layer = step.operation
    step.read(layer.kernel, 0, step.layout, step.rank - 1)
    return Channels(step.rank - 1, make_channels(step, layer.kernel, -1, "units"))


def trace_convolution(step: ChannelStep) -> Layout:
    """Convolutions of any rank; of grouped ones whole groups fall."""
    layer = step.operation
    axis = channel_axis(step)
    if layer.groups == 1:
        step.read(layer.kernel, -2, step.layout, axis)
    ids = make_channels(step, layer.kernel, -1, "filters")
    if layer.groups > 1:
        _tie_groups(step, ids, axis)
    return Channels(axis, ids)


def _tie_groups(step: ChannelStep, ids: np.ndarray, axis: int) -> None:
    groups = ids.reshape(step.operation.groups, -1)
    read = step.ids_on(axis)
    if read is None:
        step.pin(step.layout, step.reason)
        step.trace.units.pin(ids, step.reason)
        return
    step.tie(groups[:, :1], groups)
    step.tie(groups[:, :1], read.reshape(len(groups), -1))
    step.edit("groups", groups[:, 0])


def trace_transposed_convolution(step: ChannelStep) -> Layout:
    """Transposed convolutions, whose kernels have the outputs before the inputs."""
    layer = step.operation
    axis = channel_axis(step)
    step.read(layer.kernel, -1, step.layout, axis)
    return Channels(axis, make_channels(step, layer.kernel, -2, "filters"))


def trace_depthwise_convolution(step: ChannelStep) -> Layout | list[Layout]:
    """Depthwise convolutions: each channel makes `depth_multiplier` of its own."""
    layer = step.operation
    axis = channel_axis(step)
    ids = step.ids_on(axis)
    if ids is None:
        step.trace.keep_axis(layer.kernel, -2, step.reason)
        return step.leave(step.reason)
    step.carry(layer.kernel, -2, ids, "through")
    ids = np.repeat(ids, layer.depth_multiplier)
    step.carry(layer.bias, 0, ids, "through")
    pin_mixed(step, ids, layer.activation)
    return Channels(axis, ids)


def trace_separable_convolution(step: ChannelStep) -> Layout:
    """Separable convolutions: a depthwise one, then one of size 1."""
    layer = step.operation
    axis = channel_axis(step)
    ids = step.ids_on(axis)
    if ids is None:
        step.pin(step.layout, step.reason)
        for kernel in (layer.depthwise_kernel, layer.pointwise_kernel):
            step.trace.keep_axis(kernel, -2, step.reason)
    else:
        step.carry(layer.depthwise_kernel, -2, ids, "through")
        repeated = np.repeat(ids, layer.depth_multiplier)
        step.carry(layer.pointwise_kernel, -2, repeated, "input")
    made = make_channels(step, layer.pointwise_kernel, -1, "filters")
    return Channels(axis, made)


def trace_embedding(step: ChannelStep) -> Channels:
    """`Embedding`: a vector of new channels for each integer."""
    layer = step.operation
    step.pin(step.layout, f"{step.describe()} looks its values up")
    ids = step.produce(layer.output_dim)
    step.carry(layer.embeddings, 1, ids, "output")
    step.edit("output_dim", ids)
    return Channels(step.rank, ids)


def trace_reversible_embedding(step: ChannelStep) -> Layout | list[Layout]:
    """`ReversibleEmbedding`: an embedding, or with `reverse` its scores for each entry.

    Both ways read the same channels.
    """
    layer = step.operation
    weights = [(layer.embeddings, 1)]
    if not layer.tie_weights:
        weights.append((layer.reverse_embeddings, 0))
    if not step.named_arguments.get("reverse"):
        layout = trace_embedding(step)
        for weight, axis in weights[1:]:
            step.carry(weight, axis, layout.ids, "through")
        return layout
    for weight, axis in weights:
        step.read(weight, axis, step.layout, step.rank - 1)
    ids = step.ids_on(step.rank - 1)
    if ids is not None:
        step.edit("output_dim", ids)
    return [Whole(f"{step.describe()} has one score for each entry")]


def trace_einsum_dense(step: ChannelStep) -> Layout | list[Layout]:
    """`EinsumDense` that sums up the channels and makes one new axis."""
    layer = step.operation
    inputs, kernel, output = _einsum_labels(layer.equation, step.rank)
    made = [label for label in kernel if label in output and label not in inputs]
    _read_einsum(step, inputs, kernel, output)
    if len(made) != 1:
        return step.stay(f"{step.describe()} makes {len(made)} new axes")[0]
    axis = kernel.index(made[0])
    ids = step.produce(int(layer.kernel.shape[axis]))
    step.carry(layer.kernel, axis, ids, "output")
    place = output.index(made[0])
    from_end = place - len(output)
    if layer.bias is not None and made[0] in layer.bias_axes:
        step.carry(layer.bias, from_end, ids, "output")
    shape = list(layer.get_config()["output_shape"])
    shape[from_end] = ids
    step.edit("output_shape", tuple(shape))
    pin_mixed(step, ids, layer.activation)
    return Channels(place, ids)


def _einsum_labels(equation: str, rank: int) -> tuple[list[str], list[str], list[str]]:
    """Labels of each axis of input, kernel and output; digits stand for `...`."""
    operands, output = equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    free = [str(i) for i in range(rank - len(inputs.replace("...", "")))]

    def labels(text: str) -> list[str]:
        before, dots, after = text.partition("...")
        return [*before, *(free if dots else ()), *after]

    return labels(inputs), list(kernel), labels(output)


def _read_einsum(
    step: ChannelStep, inputs: list[str], kernel: list[str], output: list[str]
) -> None:
    layer, layout = step.operation, step.layout
    label = inputs[layout.axis] if isinstance(layout, Channels) else None
    if isinstance(layout, Channels) and label in kernel and label not in output:
        step.carry(layer.kernel, kernel.index(label), layout.ids, "input")
        return
    step.pin(layout, step.reason)
    for axis, name in enumerate(kernel):
        if name in inputs:
            step.trace.keep_axis(layer.kernel, axis, step.reason)


def channel_axis(step: ChannelStep) -> int:
    """Axis that the layer takes for the channels of its input."""
    first = getattr(step.operation, "data_format", None) == "channels_first"
    return 1 if first else step.rank - 1


def make_channels(step: ChannelStep, kernel: Any, axis: int, key: str) -> np.ndarray:
    """New channels on an axis of a kernel and on the bias, with an activation.

    `key` names their number in the layer and its config.
    """
    layer = step.operation
    ids = step.produce(getattr(layer, key))
    step.carry(kernel, axis, ids, "output")
    step.carry(layer.bias, 0, ids, "output")
    step.edit(key, ids)
    pin_mixed(step, ids, layer.activation)
    return ids


def pin_mixed(step: ChannelStep, ids: np.ndarray, activation: Any) -> None:
    """Let channels stay that an activation such as softmax mixes."""
    if activation is not None and not is_elementwise(activation):
        name = getattr(activation, "__name__", type(activation).__name__)
        step.trace.units.pin(ids, f"the activation {name!r} mixes its channels")
