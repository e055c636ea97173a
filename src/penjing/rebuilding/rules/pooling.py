"""Windows, reductions over axes, and images of another size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.rebuilding.step import Apply, Array, NotRebuiltError, Step, with_fused
from penjing.tflite.operators import Operator

_REDUCTIONS: dict[Operator, Callable[..., Any]] = {
    Operator.MEAN: ops.mean,
    Operator.SUM: ops.sum,
    Operator.REDUCE_MAX: ops.max,
    Operator.REDUCE_MIN: ops.min,
    Operator.REDUCE_PROD: ops.prod,
    Operator.REDUCE_ANY: ops.any,
    Operator.REDUCE_ALL: ops.all,
}
_GLOBAL = {
    (Operator.MEAN, 3): "GlobalAveragePooling1D",
    (Operator.MEAN, 4): "GlobalAveragePooling2D",
    (Operator.REDUCE_MAX, 3): "GlobalMaxPooling1D",
    (Operator.REDUCE_MAX, 4): "GlobalMaxPooling2D",
}


def window(step: Step) -> Apply:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    is_average = step.operator == Operator.AVERAGE_POOL_2D
    cls = keras.layers.AveragePooling2D if is_average else keras.layers.MaxPooling2D
    size = step.option("filter_height"), step.option("filter_width")
    strides = step.option("stride_h"), step.option("stride_w")
    layer = cls(size, strides=strides, padding=step.padding, name=step.name)
    if is_average and step.padding == "same" and keras.backend.backend() == "torch":
        return with_fused(step, _average_of_what_is_there(step, size, strides))
    return with_fused(step, layer)


def _average_of_what_is_there(
    step: Step, size: tuple[int, int], strides: tuple[int, int]
) -> Apply:
    """An average in which padding does not count; Keras counts it on PyTorch."""
    before, after = step.shape()[1:3], step.output_shape[1:3]
    totals = [
        max((new - 1) * by + window - old, 0)
        for old, new, by, window in zip(before, after, strides, size, strict=True)
    ]
    pads = [(0, 0), *((n // 2, n - n // 2) for n in totals), (0, 0)]

    def mean(x: Any) -> Any:
        padded = ops.pad(x, pads)
        return ops.average_pool(padded, size, strides, "valid", "channels_last")

    there = ops.convert_to_numpy(mean(np.ones((1, *before, 1), "float32")))
    return lambda x: ops.divide(mean(x), there)


def reduction(step: Step) -> Apply:
    """MEAN, SUM and the like over known axes."""
    rank = len(step.shape())
    if not rank:
        return lambda x: x
    if step.operator == Operator.MEAN and step.computes_whole_numbers:
        raise NotRebuiltError("a mean of whole numbers, which LiteRT cuts off")
    axes = sorted({int(n) % rank for n in step.known(1, "an axis").reshape(-1)})
    keepdims = bool(step.option("keep_dims"))
    pooling = _GLOBAL.get((step.operator, rank))
    if pooling is not None and axes == list(range(1, rank - 1)):
        return getattr(keras.layers, pooling)(keepdims=keepdims, name=step.name)
    function = _REDUCTIONS[step.operator]
    return lambda x: function(x, axis=tuple(axes), keepdims=keepdims)


def index_of_extreme(step: Step) -> Apply:
    """ARG_MAX and ARG_MIN."""
    axis = int(step.known(1, "an axis").reshape(-1)[0])
    dtype = step.graph.kind(step.call.output).dtype
    function = ops.argmax if step.operator == Operator.ARG_MAX else ops.argmin
    return lambda x: ops.cast(function(x, axis=axis), dtype)


def running_sum(step: Step) -> Apply:
    """CUMSUM that counts from the start, each value included."""
    if step.option("exclusive") or step.option("reverse"):
        raise NotRebuiltError("a sum from the end, or without the value itself")
    axis = int(step.known(1, "an axis").reshape(-1)[0])
    return lambda x: ops.cumsum(x, axis=axis)


def resizing(step: Step) -> Apply:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR to a known size."""
    new = [int(n) for n in step.known(1, "a size").reshape(-1)]
    old = step.shape()[1:3]
    is_bilinear = step.operator == Operator.RESIZE_BILINEAR
    corners, half = step.option("align_corners"), step.option("half_pixel_centers")
    whole = all(n % o == 0 for n, o in zip(new, old, strict=True))
    usual = bool(half) if is_bilinear else True
    if whole and usual and not corners:
        return keras.layers.UpSampling2D(
            tuple(n // o for n, o in zip(new, old, strict=True)),
            interpolation="bilinear" if is_bilinear else "nearest",
            name=step.name,
        )
    places = [_sources(*pair, corners, half) for pair in zip(new, old, strict=True)]
    if is_bilinear:
        return _bilinear(places, old)
    shift = 0.5 if corners or half else 0.0  # to the nearest row, or its middle
    return _nearest([np.floor(rows + shift) for rows in places], old)


def _sources(new: int, old: int, corners: int, half: int) -> Array:
    """Where each new row lies among the old ones."""
    rows = np.arange(new, dtype="f4")
    if corners and new > 1:
        return np.asarray(rows * np.float32((old - 1) / (new - 1)))
    step = np.float32(old / new)
    return np.asarray((rows + 0.5) * step - 0.5 if half else rows * step)


def _bilinear(places: list[Array], old: tuple[int, ...]) -> Apply:
    rows, columns = (_mixing(p, size) for p, size in zip(places, old, strict=True))
    return lambda x: ops.einsum(
        "pw,bowc->bopc", columns, ops.einsum("oh,bhwc->bowc", rows, x)
    )


def _mixing(places: Array, size: int) -> Array:
    """How much of each old row is in each new one."""
    places = np.clip(places, 0, size - 1)
    low = np.floor(places).astype(int)
    share = (places - low).astype("f4")
    mixing = np.zeros((len(places), size), "f4")
    rows = np.arange(len(places))
    mixing[rows, low] += 1 - share
    mixing[rows, np.minimum(low + 1, size - 1)] += share
    return mixing


def _nearest(places: list[Array], old: tuple[int, ...]) -> Apply:
    rows, columns = (
        np.clip(p, 0, size - 1).astype("i4")
        for p, size in zip(places, old, strict=True)
    )
    return lambda x: ops.take(ops.take(x, rows, axis=1), columns, axis=2)
