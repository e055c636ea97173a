"""Channel rules of recurrent layers, whose units own a place in every gate."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from penjing.channels.rules.dense_rules import channel_axis, pin_mixed
from penjing.channels.rules.trace import ChannelStep
from penjing.channels.rules.units import Channels, Layout, Whole

_CELLS = (keras.layers.SimpleRNNCell, keras.layers.LSTMCell, keras.layers.GRUCell)


def trace_recurrent(step: ChannelStep) -> Layout | list[Layout]:
    """`SimpleRNN`, `LSTM`, `GRU`, and `RNN` around one of their cells."""
    layer = step.operation
    reason = _obstacle(step, layer)
    if reason is not None:
        return step.leave(reason)
    ids = _trace_cell(step, layer)
    _tie_states(step, ids)
    return [Channels(len(shape) - 1, ids) for shape in step.output_shapes]


def trace_bidirectional(step: ChannelStep) -> Layout | list[Layout]:
    """`Bidirectional` around a recurrent layer."""
    layer = step.operation
    parts = (layer.forward_layer, layer.backward_layer)
    for part in parts:
        reason = _obstacle(step, part)
        if reason is not None:
            return step.leave(reason)
    if sum("float" in str(tensor.dtype) for tensor in step.tensors) > 1:
        return step.leave(f"{step.describe()} takes its first states from outside")
    if parts[0].cell.units != parts[1].cell.units:
        return step.leave(f"{step.describe()} has other units in each direction")
    made = [_trace_cell(step, part, part.name) for part in parts]
    step.tie(*made)  # Keras takes twice the forward units for the size of both
    axes = [len(shape) - 1 for shape in step.output_shapes]
    if layer.merge_mode is None:
        each = [made[0], made[1]]
    elif layer.merge_mode == "concat":
        each = [np.concatenate(made)]
    else:
        each = [made[0]]
    states = (len(axes) - len(each)) // 2
    each += [made[0]] * states + [made[1]] * states
    return [Channels(axis, ids) for axis, ids in zip(axes, each, strict=True)]


def _obstacle(step: ChannelStep, layer: Any) -> str | None:
    cell = getattr(layer, "cell", None)
    if type(cell) not in _CELLS:
        kind = type(cell).__name__ if cell is not None else type(layer).__name__
        return f"units of a {kind} in {step.describe()} are not followed"
    if getattr(layer, "stateful", False):
        return f"{step.describe()} keeps its states between batches"
    return None


def _trace_cell(
    step: ChannelStep, layer: Any, slot: str = "", key: str = "units", axis: int = 2
) -> np.ndarray:
    """Ids of the units of a cell that reads its channels on an axis of the input."""
    cell = layer.cell
    step.read(cell.kernel, -2, step.layout, axis)
    ids = step.produce(getattr(cell, key), slot)
    gates = int(cell.kernel.shape[-1]) // len(ids)
    repeated = np.tile(ids, gates)
    step.carry(cell.kernel, -1, repeated, "output")
    step.carry(cell.recurrent_kernel, -2, ids, "input")
    step.carry(cell.recurrent_kernel, -1, repeated, "output")
    step.carry(cell.bias, -1, repeated, "output")
    owner = cell if type(layer) is keras.layers.RNN else layer
    step.edit(key, ids, owner)
    pin_mixed(step, ids, cell.activation)
    if gates > 1:
        pin_mixed(step, ids, cell.recurrent_activation)
    return ids


def _tie_states(step: ChannelStep, ids: np.ndarray) -> None:
    """First states that are given are one value for each unit."""
    states = list(zip(step.layouts, step.tensors, strict=True))[1:]
    for layout, tensor in states:
        if "float" not in str(tensor.dtype):
            continue  # a mask
        if isinstance(layout, Channels) and layout.axis == 1:
            step.tie(ids, layout.ids)
        else:
            reason = layout.reason if isinstance(layout, Whole) else "states differ"
            step.pin(layout, reason)
            step.trace.units.pin(ids, f"its first state stays whole: {reason}")


def trace_convolutional_recurrent(step: ChannelStep) -> Layout | list[Layout]:
    """`ConvLSTM1D`, `ConvLSTM2D` and `ConvLSTM3D`."""
    layer = step.operation
    if layer.stateful:
        return step.leave(f"{step.describe()} keeps its states between batches")
    if len(step.layouts) > 1:
        return step.leave(f"{step.describe()} takes its first states from outside")
    first = channel_axis(step) == 1
    axis = 2 if first else step.rank - 1
    ids = _trace_cell(step, layer, key="filters", axis=axis)
    spatial = step.rank - 3
    return [
        Channels(len(shape) - 1 - (spatial if first else 0), ids)
        for shape in step.output_shapes
    ]
