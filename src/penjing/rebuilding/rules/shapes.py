"""Operators that move values, and change none."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from penjing.rebuilding.step import Apply, NotRebuiltError, Step, with_fused
from penjing.tflite.operators import Operator

_MIRRORED: tuple[Literal["reflect"], Literal["symmetric"]] = ("reflect", "symmetric")


def reshape(step: Step) -> Apply:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the shape that the file stores."""
    shape = step.output_shape
    if shape == step.shape():
        return lambda x: x
    if not step.has_batch:
        size = (-1, *shape[1:]) if shape else ()
        return lambda x: ops.reshape(x, size)
    if len(shape) == 1:
        return lambda x: ops.reshape(x, (-1,))
    if len(shape) == 2:
        return keras.layers.Flatten(name=step.name)
    return keras.layers.Reshape(shape[1:], name=step.name)


def transpose(step: Step) -> Apply:
    """TRANSPOSE by a known order."""
    order = tuple(int(n) for n in step.known(1, "an order").reshape(-1))
    if order[0] == 0:
        return keras.layers.Permute(order[1:], name=step.name)
    return lambda x: ops.transpose(x, order)


def concatenation(step: Step) -> Apply:
    """CONCATENATION of tensors, and of constants that are the same in each batch."""
    axis = step.option("axis") % len(step.output_shape)
    places = range(len(step.call.inputs))
    constants = [step.constant(place) for place in places]
    if all(constant is None for constant in constants):
        layer = keras.layers.Concatenate(axis=axis, name=step.name)
        return with_fused(step, lambda *tensors: layer(list(tensors)))

    def apply(*tensors: Any) -> Any:
        given = iter(tensors)
        parts = [
            next(given) if c is None else _spread(c, tensors[0]) for c in constants
        ]
        return ops.concatenate(parts, axis=axis)

    return with_fused(step, apply)


def _spread(constant: Any, like: Any) -> Any:
    """A constant for each sample of a batch.

    Not by a sum with zeros, which Keras takes for a bias on TensorFlow.
    """
    rank = len(like.shape)
    one = ops.max(ops.ones_like(like), axis=tuple(range(1, rank)), keepdims=True)
    return ops.multiply(constant, one)


def pad(step: Step) -> Apply:
    """PAD and PADV2."""
    widths = _widths(step)
    value = step.constant(2) if step.has(2) else None
    number = 0.0 if value is None else float(value.reshape(-1)[0])
    inner = [w for w in widths if any(w)]
    if number == 0 and widths[0] == (0, 0) and widths[-1] == (0, 0) and inner:
        if len(widths) == 4:
            return keras.layers.ZeroPadding2D(tuple(widths[1:3]), name=step.name)
        if len(widths) == 3:
            return keras.layers.ZeroPadding1D(widths[1], name=step.name)
    return lambda x: ops.pad(x, widths, constant_values=number)


def mirror_pad(step: Step) -> Apply:
    """MIRROR_PAD, by places: `ops.pad` mirrors uneven widths otherwise on PyTorch."""
    widths, mode = _widths(step), _MIRRORED[step.option("mode")]
    sizes = step.shape()
    places = {
        axis: np.pad(np.arange(sizes[axis]), width, mode=mode)
        for axis, width in enumerate(widths)
        if any(width)
    }

    def apply(x: Any) -> Any:
        for axis, chosen in places.items():
            x = ops.take(x, chosen, axis=axis)
        return x

    return apply


def strided_slice(step: Step) -> Apply:
    """STRIDED_SLICE by known ends, along the batch the whole of it."""
    begin, end, strides = (
        [int(n) for n in step.known(place, "an end or a stride").reshape(-1)]
        for place in (1, 2, 3)
    )
    if step.option("ellipsis_mask") or step.option("new_axis_mask"):
        raise NotRebuiltError("a slice that adds axes")
    if step.option("offset"):
        end = [b + e for b, e in zip(begin, end, strict=True)]
    parts: list[Any] = []
    for axis, (low, high, by) in enumerate(zip(begin, end, strides, strict=True)):
        if step.option("shrink_axis_mask") >> axis & 1:
            parts.append(low)
            continue
        first = None if step.option("begin_mask") >> axis & 1 else low
        last = None if step.option("end_mask") >> axis & 1 else high
        parts.append(slice(first, last, by))
    return _sliced(step, parts)


def plain_slice(step: Step) -> Apply:
    """SLICE from a known start, of a known size."""
    begin, size = (
        [int(n) for n in step.known(place, "a start or a size").reshape(-1)]
        for place in (1, 2)
    )
    parts = [
        slice(low, None if length == -1 else low + length)
        for low, length in zip(begin, size, strict=True)
    ]
    return _sliced(step, parts)


def split(step: Step) -> Apply:
    """SPLIT and SPLIT_V along a known axis."""
    is_even = step.operator == Operator.SPLIT
    axis_place, place = (0, 1) if is_even else (2, 0)
    rank = len(step.shape(place))
    axis = int(step.known(axis_place, "an axis").reshape(-1)[0]) % rank
    sizes = [step.graph.shape(number)[axis] for number in step.call.outputs]
    ends = np.cumsum(sizes)
    before = (slice(None),) * axis

    def apply(x: Any) -> list[Any]:
        pairs = zip(ends, sizes, strict=True)
        return [x[(*before, slice(int(e) - s, int(e)))] for e, s in pairs]

    return apply


def pack(step: Step) -> Apply:
    """PACK: tensors along a new axis."""
    axis = step.option("axis")
    constants = [step.constant(place) for place in range(len(step.call.inputs))]
    if any(constant is not None for constant in constants):
        raise NotRebuiltError("a constant beside tensors that are computed")
    return lambda *tensors: ops.stack(tensors, axis=axis)


def unpack(step: Step) -> Apply:
    """UNPACK: the parts along an axis."""
    axis = step.option("axis") % len(step.shape())
    before = (slice(None),) * axis
    count = len(step.call.outputs)
    return lambda x: [x[(*before, place)] for place in range(count)]


def gather(step: Step) -> Apply:
    """GATHER: rows of a table by computed ids, or known places of a tensor."""
    if step.option("batch_dims"):
        raise NotRebuiltError("places of their own for each sample")
    axis = step.option("axis")
    table = step.constant(0)
    if table is not None:
        if axis or table.ndim != 2 or table.dtype.kind != "f":
            return lambda ids: ops.take(table, ids, axis=axis)
        layer = keras.layers.Embedding(*table.shape, name=step.name)
        layer.build()
        layer.set_weights([table])
        return layer
    places = step.constant(1)
    if places is None:
        return lambda x, ids: ops.take(x, ids, axis=axis)
    return lambda x: ops.take(x, places, axis=axis)


def tile(step: Step) -> Apply:
    """TILE by known counts."""
    counts = [int(n) for n in step.known(1, "a count").reshape(-1)]
    return lambda x: ops.tile(x, counts)


def reverse(step: Step) -> Apply:
    """REVERSE_V2 along known axes."""
    axes = tuple(int(n) for n in step.known(1, "an axis").reshape(-1))
    return lambda x: ops.flip(x, axis=axes)


def depth_to_space(step: Step) -> Apply:
    """DEPTH_TO_SPACE: channels become blocks of pixels."""
    _, height, width, channels = step.shape()
    block = step.option("block_size")
    inner = (height, width, block, block, channels // block**2)

    def apply(x: Any) -> Any:
        moved = ops.transpose(ops.reshape(x, (-1, *inner)), (0, 1, 3, 2, 4, 5))
        return ops.reshape(moved, (-1, *step.output_shape[1:]))

    return apply


def space_to_depth(step: Step) -> Apply:
    """SPACE_TO_DEPTH: blocks of pixels become channels."""
    _, height, width, channels = step.output_shape
    block = step.option("block_size")
    inner = (height, block, width, block, channels // block**2)

    def apply(x: Any) -> Any:
        moved = ops.transpose(ops.reshape(x, (-1, *inner)), (0, 1, 3, 2, 4, 5))
        return ops.reshape(moved, (-1, *step.output_shape[1:]))

    return apply


def matrix_product(step: Step) -> Apply:
    """BATCH_MATMUL; with a constant matrix it is a dense layer without a bias."""
    first, second = (bool(step.option(name)) for name in ("adj_x", "adj_y"))
    constants = [step.constant(place) for place in (0, 1)]
    weights = constants[1]
    if weights is not None and weights.ndim == 2 and not first:
        kernel = weights.T if second else weights
        layer = keras.layers.Dense(kernel.shape[1], use_bias=False, name=step.name)
        return with_fused(step, step.built(layer, [kernel]))

    def apply(*tensors: Any) -> Any:
        given = iter(tensors)
        x, y = (next(given) if c is None else c for c in constants)
        return ops.matmul(_turned(x, first), _turned(y, second))

    return with_fused(step, apply)


def _turned(x: Any, turns: bool) -> Any:
    return ops.swapaxes(x, -1, -2) if turns else x


def _widths(step: Step) -> list[tuple[int, int]]:
    pairs = step.known(1, "a width").reshape(-1, 2)
    return [(int(low), int(high)) for low, high in pairs]


def _sliced(step: Step, parts: list[Any]) -> Apply:
    batch = step.graph.batch
    if step.has_batch and isinstance(parts[0], slice):
        chosen_samples = range(batch)[parts[0]]
        if chosen_samples == range(batch):
            parts[0] = slice(None)
    turned = {}  # PyTorch has no negative steps
    for axis, part in enumerate(parts):
        if isinstance(part, slice) and part.step is not None and part.step < 0:
            turned[axis] = np.arange(step.shape()[axis])[part]
            parts[axis] = slice(None)
    chosen = tuple(parts)

    def apply(x: Any) -> Any:
        for axis, places in turned.items():
            x = ops.take(x, places, axis=axis)
        return x[chosen]

    return apply
