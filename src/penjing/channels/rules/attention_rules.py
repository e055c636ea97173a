"""Channel rules of attention layers, which lose whole heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from penjing.channels.rules.trace import ChannelStep
from penjing.channels.rules.units import Channels, Layout
from penjing.models.keras_private import attention_parts


def trace_multi_head_attention(step: ChannelStep) -> list[Layout]:
    """`MultiHeadAttention`: a unit is a head, whatever the size of its key."""
    layer = step.operation
    reason = _obstacle(step)
    if reason is not None:
        return _leave(step, reason)
    heads = step.produce(layer.num_heads, width=_head_size(layer))
    step.edit("num_heads", heads)
    _trace_projections(step, heads, heads)
    made = _trace_output(step, heads)
    step.edit("output_shape", (made,))
    return _outputs(step, heads, made)


def trace_grouped_query_attention(step: ChannelStep) -> list[Layout]:
    """`GroupQueryAttention`: a key and value head with the query heads that read it."""
    layer = step.operation
    reason = _obstacle(step)
    if reason is not None:
        return _leave(step, reason)
    readers = layer.num_query_heads // layer.num_key_value_heads
    width = readers * _head_size(layer)
    heads = step.produce(layer.num_key_value_heads, width=width)
    queries = np.repeat(heads, readers)
    step.edit("num_key_value_heads", heads)
    step.edit("num_query_heads", queries)
    _trace_projections(step, queries, heads)
    made = _trace_output(step, queries)
    query = _layout_of(step, "query")
    if isinstance(query, Channels):
        step.tie(query.ids, made)
    else:
        step.trace.units.pin(made, query.reason)
    return _outputs(step, queries, made)


def _trace_projections(
    step: ChannelStep, queries: np.ndarray, keys: np.ndarray
) -> None:
    query, value = _layout_of(step, "query"), _layout_of(step, "value")
    parts = attention_parts(step.operation)
    reading = [
        (parts.query, query, queries),
        (parts.key, _layout_of(step, "key", value), keys),
        (parts.value, value, keys),
    ]
    if parts.gate is not None:
        reading.append((parts.gate, query, queries))
    for dense, layout, heads in reading:
        step.read(dense.kernel, 0, layout, step.rank - 1)
        step.carry(dense.kernel, 1, heads, "output")
        step.carry(dense.bias, 0, heads, "output")


def _trace_output(step: ChannelStep, heads: np.ndarray) -> np.ndarray:
    """The projection of the heads; the channels that it makes."""
    dense = attention_parts(step.operation).output
    made = step.produce(int(dense.kernel.shape[-1]), dense.name)
    step.carry(dense.kernel, 0, heads, "input")
    step.carry(dense.kernel, 2, made, "output")
    step.carry(dense.bias, 0, made, "output")
    return made


def _head_size(layer: Any) -> int:
    return int(attention_parts(layer).output.kernel.shape[1])


def _outputs(step: ChannelStep, heads: np.ndarray, made: np.ndarray) -> list[Layout]:
    found: list[Layout] = [Channels(step.rank - 1, made)]
    return found + [Channels(1, heads) for _ in step.output_shapes[1:]]


def _obstacle(step: ChannelStep) -> str | None:
    output = attention_parts(step.operation).output.kernel
    if len(output.shape) != 3:
        return f"{step.describe()} makes several axes at once"
    mask = step.named_arguments.get("attention_mask")
    if mask is not None and len(mask.shape) > step.rank:
        return f"{step.describe()} takes a mask for each head"
    return None


def _leave(step: ChannelStep, reason: str) -> list[Layout]:
    for variable in step.operation.weights:
        step.trace.keep_axes(variable, reason)
    return step.leave(reason)


def _layout_of(step: ChannelStep, name: str, default: Any = None) -> Any:
    tensor = step.named_arguments.get(name)
    for candidate, layout in zip(step.tensors, step.layouts, strict=True):
        if candidate is tensor:
            return layout
    return default
