"""What is changed in a model so that sparse kernels take it, layer by layer."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.models.layer_making import make_layer_again
from penjing.sparse.sparse_layers import (
    Placed,
    between_stem_and_pooling,
    convolution_failure,
    is_convolution,
    is_depthwise,
    is_pooling,
    is_stem,
    layer_failure,
    reads_input,
)
from penjing.sparse.sparse_rules import STEM_CHANNELS

Array = np.ndarray[Any, Any]

_NO_POOLING = (
    "no global average pooling follows, where sparse kernels end; put "
    "GlobalAveragePooling2D before the classifier"
)
_NO_STEM = "sparse kernels begin at a 3x3 convolution with stride 2; none is before it"
_POOLED = "its mean goes back into a map of features; sparse kernels end at a mean"
_FREE = (
    "the size of its image is free, and so is its padding; give the keras.Input of the "
    "model that it stands in a size"
)
_SHARED = "it is used more than once, and would have to change for each use"
_LARGE = 5  # the depthwise kernel that a 3x3 one fits into


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerChange:
    """What becomes of a layer: `text` is "" for nothing, `obstacle` "" where it fits.

    `make` gives the layers, and functions of an image, that stand in its place; None
    for the layer itself. `kernel` turns its kernel into that of the new one. Where
    `is_equivalent` outputs stay the same.
    """

    placed: Placed
    text: str = ""
    obstacle: str = ""
    is_equivalent: bool = True
    make: Callable[[], list[Any]] | None = None
    kernel: Callable[[Array], Array] = np.asarray


def plan_changes(
    layers: Sequence[Placed], *, turned: bool, equivalent: bool
) -> list[LayerChange]:
    """Find what fits, what can be made to, and what cannot: a row for each change.

    `turned`: images and kernels are turned by half a turn. `equivalent`: outputs have
    to stay the same.
    """
    if not any(is_pooling(placed) for placed in layers):
        ends = [placed for placed in layers if is_stem(placed)] or layers[-1:]
        return [LayerChange(placed=placed, obstacle=_NO_POOLING) for placed in ends]
    inside = {id(placed) for placed in between_stem_and_pooling(layers)}
    uses = Counter(id(placed.layer) for placed in layers)
    rows = []
    for placed in layers:
        row = LayerChange(placed=placed)
        if id(placed) in inside:
            row = _planned(placed, inside, turned=turned, equivalent=equivalent)
        elif _is_classifier(placed):
            row = _classifier(placed)
        if row.make is not None:
            changed = [placed]
            if placed.padding is not None and row.text:  # its padding is replaced too
                changed.append(placed.padding)
            if any(uses[id(part.layer)] > 1 for part in changed):
                row = LayerChange(placed=placed, obstacle=_SHARED)
            else:
                rows += [LayerChange(placed=part, make=list) for part in changed[1:]]
        if row.make is not None or row.obstacle:
            rows.append(row)
        if id(placed) in inside and not is_pooling(placed):
            rows += _read_outside(placed, inside)
    return rows


def _read_outside(placed: Placed, inside: set[int]) -> list[LayerChange]:
    """Whether others read a map of features, which has its channels first."""
    readers = [r.name for r in placed.readers if id(r) not in inside]
    if placed.is_output:
        readers.append("the outputs")
    if not readers:
        return []
    obstacle = (
        f"{' and '.join(readers)} read what it gives; only layers that lead to the "
        "global average pooling may"
    )
    return [LayerChange(placed=placed, obstacle=obstacle)]


def needs_turn(layers: Sequence[Placed]) -> bool:
    """Whether the first convolution fits turned images, and not as it is."""
    return any(
        _fits(placed, turned=True) and not _fits(placed, turned=False)
        for placed in between_stem_and_pooling(layers)
        if is_stem(placed)
        and tuple(placed.layer.kernel_size) == (3, 3)
        and tuple(placed.layer.strides) == (2, 2)
    )


def _planned(
    placed: Placed, inside: set[int], *, turned: bool, equivalent: bool
) -> LayerChange:
    """What becomes of a layer from the stem to the pooling."""
    if reads_input(placed) and not is_stem(placed):
        return LayerChange(placed=placed, obstacle=_NO_STEM)
    if is_convolution(placed.layer):
        change = _convolution(placed, turned=turned, equivalent=equivalent)
        is_point = tuple(placed.layer.kernel_size) == (1, 1)
        return change if change.obstacle or is_point or not turned else _turned(change)
    if is_pooling(placed):
        if any(id(reader) in inside for reader in placed.readers):
            return LayerChange(placed=placed, obstacle=_POOLED)
        if isinstance(placed.layer, keras.layers.AveragePooling2D):
            return _whole_pooling(placed)
    return LayerChange(placed=placed, obstacle=layer_failure(placed) or "")


def _turned(change: LayerChange) -> LayerChange:
    """The same on images turned by half a turn; the first convolution turns them."""
    placed = change.placed
    make = change.make or (lambda: [make_layer_again(placed.layer)])
    return dataclasses.replace(
        change,
        make=(lambda: [_turned_images, *make()]) if is_stem(placed) else make,
        kernel=lambda kernel: change.kernel(np.ascontiguousarray(kernel[::-1, ::-1])),
    )


def _turned_images(images: Any) -> Any:
    """Keras 3.12 flips one axis at a time."""
    return ops.flip(ops.flip(images, axis=1), axis=2)


def _convolution(placed: Placed, *, turned: bool, equivalent: bool) -> LayerChange:
    layer = placed.layer
    stacks = is_stem(placed) and placed.shape[-1] == 1
    failure = convolution_failure(placed)
    if failure is None and (not turned or tuple(layer.strides) == (1, 1)):
        return LayerChange(placed=placed)
    channels = STEM_CHANNELS if stacks else None
    other = convolution_failure(placed, if_padded=True, channels=channels)
    if other is not None:
        return LayerChange(placed=placed, obstacle=other)
    if _fits(placed, turned=turned):
        return _padded(placed, stacks=stacks)
    if not equivalent and _size_stays(placed, layer.kernel_size[0]):
        return _padded(placed, stacks=stacks, is_equivalent=False)
    offsets = _offsets(placed, turned=turned)
    if equivalent and is_depthwise(layer) and offsets is not None:
        return _enlarged(placed, offsets)
    if None in placed.size:
        return LayerChange(placed=placed, obstacle=_FREE)
    return LayerChange(
        placed=placed,
        obstacle=f"{failure or 'its padding does not fit turned images'}; no padding "
        "on every side gives the same. equivalent=False changes the padding, for a "
        "model that is trained after",
    )


def _sides(placed: Placed, *, turned: bool) -> list[tuple[int, int, int]] | None:
    """For both axes: padding before the image, its size, and the output's."""
    layer = placed.layer
    sides = placed.sides()
    if sides is None or None in placed.size:
        return None
    found = []
    for axis, size in enumerate(placed.size):
        kernel, stride = layer.kernel_size[axis], layer.strides[axis]
        before, after = sides[axis]
        output = (int(size or 0) + before + after - kernel) // stride + 1
        reached = (output - 1) * stride + kernel - int(size or 0) - before
        found.append((reached if turned else before, int(size or 0), output))
    return found


def _fits(placed: Placed, *, turned: bool) -> bool:
    """Whether padding on every side comes to the same."""
    half = placed.layer.kernel_size[0] // 2
    sides = _sides(placed, turned=turned)
    return (
        sides is not None
        and all(before == half for before, _, _ in sides)
        and _size_stays(placed, placed.layer.kernel_size[0])
    )


def _size_stays(placed: Placed, kernel: int) -> bool:
    """Whether the output keeps its size with a kernel padded on every side."""
    sides = _sides(placed, turned=False)
    strides = placed.layer.strides
    return sides is not None and all(
        (size + 2 * (kernel // 2) - kernel) // stride + 1 == output
        for (_, size, output), stride in zip(sides, strides, strict=True)
    )


def _offsets(placed: Placed, *, turned: bool) -> tuple[int, int] | None:
    """Where a 3x3 kernel lies in a 5x5 one that is padded by 2."""
    sides = _sides(placed, turned=turned)
    if tuple(placed.layer.kernel_size) != (3, 3) or sides is None:
        return None
    rows, columns = (_LARGE // 2 - before for before, _, _ in sides)
    if not (0 <= rows <= 2 and 0 <= columns <= 2):
        return None
    return (rows, columns) if _size_stays(placed, _LARGE) else None


def _padded(placed: Placed, *, stacks: bool, is_equivalent: bool = True) -> LayerChange:
    half = placed.layer.kernel_size[0] // 2
    texts = ["the grey image is stacked three times"] if stacks else []
    texts.append(f"padded by {half} on every side, in a layer of its own")
    if not is_equivalent:
        texts.append("which moves the image by a pixel: train the model some epochs")

    def make() -> list[Any]:
        stack = [lambda images: ops.concatenate([images] * STEM_CHANNELS, axis=-1)]
        convolution = make_layer_again(placed.layer, padding="valid")
        return [*(stack if stacks else []), _padding_layer(placed, half), convolution]

    def stacked(kernel: Array) -> Array:
        return np.concatenate([kernel, np.zeros_like(kernel), np.zeros_like(kernel)], 2)

    return LayerChange(
        placed=placed,
        text="; ".join(texts),
        is_equivalent=is_equivalent,
        make=make,
        kernel=stacked if stacks else np.asarray,
    )


def _enlarged(placed: Placed, offsets: tuple[int, int]) -> LayerChange:
    def large(kernel: Array) -> Array:
        grown = np.zeros((_LARGE, _LARGE, *kernel.shape[2:]), kernel.dtype)
        rows, columns = offsets
        grown[rows : rows + 3, columns : columns + 3] = kernel
        return grown

    return LayerChange(
        placed=placed,
        text="its 3x3 kernel becomes part of a 5x5 one, padded by 2 on every side",
        make=lambda: [
            _padding_layer(placed, _LARGE // 2),
            make_layer_again(
                placed.layer, padding="valid", kernel_size=(_LARGE, _LARGE)
            ),
        ],
        kernel=large,
    )


def _padding_layer(placed: Placed, half: int) -> Any:
    name = f"{placed.layer.name}_padding"
    if placed.padding is not None:
        name = placed.padding.layer.name
    return keras.layers.ZeroPadding2D(half, name=name)


def _whole_pooling(placed: Placed) -> LayerChange:
    return LayerChange(
        placed=placed,
        text="it covers the whole map: global average pooling",
        make=lambda: [
            keras.layers.GlobalAveragePooling2D(keepdims=True, name=placed.layer.name)
        ],
    )


def _is_classifier(placed: Placed) -> bool:
    """Whether a layer is a 1x1 convolution or dense layer on pooled features."""
    layer = placed.layer
    if len(placed.shape) != 4 or tuple(placed.shape[1:3]) != (1, 1):
        return False
    pointwise = isinstance(layer, keras.layers.Conv2D) and (
        tuple(layer.kernel_size) == (1, 1) and layer.groups == 1
    )
    return pointwise or isinstance(layer, keras.layers.Dense)


def _classifier(placed: Placed) -> LayerChange:
    layer = placed.layer
    is_dense = isinstance(layer, keras.layers.Dense)
    units = layer.units if is_dense else layer.filters

    def make() -> list[Any]:
        dense = make_layer_again(layer) if is_dense else _as_dense(layer)
        channels = placed.shape[-1]
        return [
            keras.layers.Reshape((channels,), name=f"{layer.name}_flat"),
            dense,
            keras.layers.Reshape((1, 1, units), name=f"{layer.name}_point"),
        ]

    return LayerChange(
        placed=placed,
        text="behind the pooling it becomes a dense layer",
        make=make,
        kernel=lambda kernel: kernel.reshape(-1, units),
    )


def _as_dense(layer: Any) -> Any:
    config = layer.get_config()
    dense = keras.layers.Dense(layer.filters).get_config()
    shared = {key: config[key] for key in dense if key in config}
    return keras.layers.Dense.from_config({**dense, **shared})
