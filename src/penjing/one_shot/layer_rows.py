"""A layer's input as the rows that its weight, seen as a matrix, is multiplied by."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from keras import layers, ops

from penjing.models.layer_making import defined_by_keras
from penjing.models.selection import SelectedWeight
from penjing.numerics import Tensor

Rows: TypeAlias = Callable[[Tensor], Tensor]

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_CELLS = (
    layers.SimpleRNNCell,
    layers.GRUCell,
    layers.LSTMCell,
    layers.StackedRNNCells,
)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerRows:
    """How the input of a layer becomes rows.

    Attributes:
        weight: What they are multiplied by, `(inputs, outputs)` as its `to_matrix`
            gives it. Its outputs are cut into `groups`, each with rows of its own.
        groups: Of a grouped or depthwise convolution, else 1.
        rows: Takes the input, gives `(samples, places, groups, inputs)`: a sample's
            places follow each other as its tokens or pixels do.
        key: Layers of one key make the same rows of the same input.
        bias: What is added to the products, or None.
        has_patches: A place of the input comes in many rows.
    """

    weight: SelectedWeight
    groups: int
    rows: Rows
    key: Any
    bias: Any = None
    has_patches: bool = False

    @property
    def inputs(self) -> int:
        """Length of a row."""
        return self.weight.matrix_shape[0]


def find_rows(weight: SelectedWeight) -> LayerRows | str:
    """How a layer's input is multiplied by one of its weights, or why nobody knows."""
    layer = weight.layer
    if isinstance(layer, layers.Embedding):
        return "an embedding looks its rows up: there are no inputs to multiply"
    if not isinstance(layer, layers.Layer) or isinstance(layer, _CELLS):
        return "a recurrent cell runs inside a loop, where its inputs are not seen"
    if not defined_by_keras(type(layer).call):
        return f"the call of {type(layer).__name__} is not Keras' own"
    for classes, view in _VIEWS:
        if isinstance(layer, classes):
            return view(weight)
    return f"nothing is known of what {type(layer).__name__} multiplies it by"


def _dense(weight: SelectedWeight) -> LayerRows:
    size = weight.matrix_shape[0]

    def rows(x: Tensor) -> Tensor:
        places = math.prod(x.shape[1:-1])
        return ops.reshape(x, (x.shape[0], places, 1, size))

    return LayerRows(
        weight=weight,
        groups=1,
        rows=rows,
        key=("dense", size),
        bias=_bias_of(weight.layer),
    )


def _einsum(weight: SelectedWeight) -> LayerRows | str:
    layer: Any = weight.layer
    left, output = layer.equation.replace(" ", "").split("->")
    tokens, kernel = left.split(",")
    shown = kernel + output
    if any(axis not in shown for axis in tokens.replace("...", "")):
        return f"its equation {layer.equation!r} sums inputs up before any product"
    if any(axis in output for axis in kernel if axis in tokens):
        return f"its equation {layer.equation!r} has weights of their own for places"
    if any(axis not in tokens + output for axis in kernel):
        return f"its equation {layer.equation!r} sums weights up before any product"
    summed = [axis for axis in kernel if axis in tokens]
    size = weight.matrix_shape[0]

    def rows(x: Tensor) -> Tensor:
        free = "".join(chr(192 + i) for i in range(len(x.shape) + 3 - len(tokens)))
        names = tokens.replace("...", free)
        order = [i for i, name in enumerate(names) if name not in summed]
        places = math.prod(x.shape[i] for i in order[1:])
        order += [names.index(name) for name in summed]
        x = ops.transpose(x, order)
        return ops.reshape(x, (x.shape[0], places, 1, size))

    bias = _bias_of(layer)
    # A bias has the axes of the output in their order; the matrix has the kernel's.
    given = [axis for axis in kernel if axis in output]
    fits = given == [axis for axis in output if axis in (layer.bias_axes or "")]
    return LayerRows(
        weight=weight,
        groups=1,
        rows=rows,
        key=("einsum", tokens, tuple(summed)),
        bias=bias if fits else None,
    )


def _convolution(weight: SelectedWeight) -> LayerRows:
    layer: Any = weight.layer
    return LayerRows(
        weight=weight,
        groups=layer.groups,
        rows=lambda x: _patches(x, layer, layer.groups),
        key=_key(layer, layer.groups),
        bias=_bias_of(layer),
        has_patches=True,
    )


def _depthwise(weight: SelectedWeight) -> LayerRows:
    layer: Any = weight.layer
    channels = weight.shape[-2]
    return LayerRows(
        weight=weight,
        groups=channels,
        rows=lambda x: _patches(x, layer, channels),
        key=_key(layer, channels),
        bias=_bias_of(layer),
        has_patches=True,
    )


def _separable(weight: SelectedWeight) -> LayerRows:
    layer: Any = weight.layer
    channels = layer.depthwise_kernel.shape[-2]
    if weight.variable is layer.depthwise_kernel:
        return LayerRows(
            weight=weight,
            groups=channels,
            rows=lambda x: _patches(x, layer, channels),
            key=_key(layer, channels),
            has_patches=True,
        )

    def rows(x: Tensor) -> Tensor:
        kernel = ops.cast(layer.depthwise_kernel.value, x.dtype)
        spread = ops.depthwise_conv(
            x,
            kernel,
            layer.strides,
            layer.padding,
            layer.data_format,
            layer.dilation_rate,
        )
        spread = _channels_last(spread, layer)
        places = math.prod(spread.shape[1:-1])
        return ops.reshape(spread, (spread.shape[0], places, 1, spread.shape[-1]))

    key = ("separable", id(layer))
    return LayerRows(weight=weight, groups=1, rows=rows, key=key, bias=_bias_of(layer))


def _transposed(weight: SelectedWeight) -> LayerRows | str:
    layer: Any = weight.layer
    if getattr(layer, "groups", 1) != 1:
        return "a transposed convolution in groups is not seen as a matrix"

    def rows(x: Tensor) -> Tensor:
        sizes = _sizes(layer.compute_output_shape(x.shape), layer)
        x = _channels_last(x, layer)
        for axis, stride in enumerate(layer.strides, 1):
            x = _stuffed(x, axis, stride)
        reach = [
            (size - 1) * dilation
            for size, dilation in zip(
                layer.kernel_size, _each(layer.dilation_rate, x), strict=True
            )
        ]
        x = ops.pad(x, [(0, 0), *((r, r) for r in reach), (0, 0)])
        ones = (1,) * len(reach)
        taps = _taps(x, layer.kernel_size, ones, _each(layer.dilation_rate, x))
        return _in_groups([_fitted(tap, sizes) for tap in taps[::-1]], 1)

    return LayerRows(
        weight=weight,
        groups=1,
        rows=rows,
        key=("transposed", id(layer)),
        bias=_bias_of(layer),
        has_patches=True,
    )


_VIEWS: tuple[tuple[Any, Callable[[SelectedWeight], LayerRows | str]], ...] = (
    (layers.Dense, _dense),
    (layers.EinsumDense, _einsum),
    (_SEPARABLE, _separable),
    (_DEPTHWISE, _depthwise),
    (_TRANSPOSED, _transposed),
    (_CONVOLUTIONS, _convolution),
)


def _bias_of(layer: Any) -> Any:
    return getattr(layer, "bias", None) if getattr(layer, "use_bias", True) else None


def _key(layer: Any, groups: int) -> Any:
    return (
        "patches",
        groups,
        *(layer.kernel_size, layer.strides, layer.dilation_rate),
        *(layer.padding, layer.data_format),
    )


def _channels_last(x: Tensor, layer: Any) -> Tensor:
    if layer.data_format == "channels_first":
        return ops.moveaxis(x, 1, -1)
    return x


def _sizes(shape: Sequence[int], layer: Any) -> Sequence[int]:
    """The sizes in space of values of a layer."""
    return shape[2:] if layer.data_format == "channels_first" else shape[1:-1]


def _fitted(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """The part of a transposed convolution that padding leaves; zeros behind it.

    Of what is too much, the half that is rounded down goes in front.
    """
    missing = []
    for axis, size in enumerate(sizes, 1):
        full = x.shape[axis]
        first = max(full - size, 0) // 2
        x = ops.take(x, range(first, min(first + size, full)), axis=axis)
        missing.append((0, max(size - full, 0)))
    return ops.pad(x, [(0, 0), *missing, (0, 0)])


def _each(value: Any, x: Tensor) -> tuple[int, ...]:
    """A number for each axis of space."""
    count = len(x.shape) - 2
    return tuple(value) if isinstance(value, Sequence) else (value,) * count


def _patches(x: Tensor, layer: Any, groups: int) -> Tensor:
    """What a convolution sees at each place: `(samples, places, groups, inputs)`."""
    x = _channels_last(x, layer)
    strides, dilations = _each(layer.strides, x), _each(layer.dilation_rate, x)
    spans = [
        (size - 1) * dilation + 1
        for size, dilation in zip(layer.kernel_size, dilations, strict=True)
    ]
    sizes = zip(x.shape[1:-1], spans, strides, strict=True)
    margins = [_margin(*size, layer.padding) for size in sizes]
    x = ops.pad(x, [(0, 0), *margins, (0, 0)])
    return _in_groups(_taps(x, layer.kernel_size, strides, dilations), groups)


def _margin(length: int, span: int, stride: int, padding: str) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return span - 1, 0
    missing = max((-(-length // stride) - 1) * stride + span - length, 0)
    return missing // 2, missing - missing // 2


def _taps(
    x: Tensor, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[Tensor]:
    """For each place in the kernel what it is multiplied by, `(..., channels)`."""
    lengths = x.shape[1:-1]
    taps = []
    for offsets in itertools.product(*(range(size) for size in sizes)):
        cuts = [slice(None)]
        axes = zip(offsets, sizes, strides, dilations, lengths, strict=True)
        for offset, size, stride, dilation, length in axes:
            last = length - (size - 1 - offset) * dilation
            cuts.append(slice(offset * dilation, last, stride))
        taps.append(x[tuple(cuts)])
    return taps


def _in_groups(taps: Sequence[Tensor], groups: int) -> Tensor:
    samples, channels = taps[0].shape[0], taps[0].shape[-1]
    places = math.prod(taps[0].shape[1:-1])
    own = channels // groups
    flat = [ops.reshape(tap, (samples, places, groups, own)) for tap in taps]
    return ops.concatenate(flat, axis=-1)


def _stuffed(x: Tensor, axis: int, stride: int) -> Tensor:
    """Zeros between the values of an axis, as a transposed convolution has them."""
    if stride == 1:
        return x
    shape = list(x.shape)
    x = ops.expand_dims(x, axis + 1)
    margins = [(0, 0)] * len(x.shape)
    margins[axis + 1] = (0, stride - 1)
    length = shape[axis] * stride
    x = ops.reshape(ops.pad(x, margins), (*shape[:axis], length, *shape[axis + 1 :]))
    cuts = [slice(None)] * axis + [slice(0, length - stride + 1)]
    return x[tuple(cuts)]
