"""Which products the runtime computes for the kernels of a call."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras

from penjing.measurement.mac_formulas import count_call
from penjing.models.layer_calls import LayerCall
from penjing.runtime.product_files import KernelProduct

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsedKernel:
    """A kernel (by its path), the layer that uses it, and what the runtime computes.

    It does so `repeats` times, as in the time steps of a recurrent layer.
    """

    path: str
    layer: str
    product: KernelProduct
    repeats: int = 1


def used_kernels(call: LayerCall) -> list[UsedKernel]:
    """Find the product of each kernel that a call uses.

    Products that no table of this module knows, as those of a Conv3D, stand as a dense
    product of as many multiply-accumulates.
    """
    if call.layer is None:
        return []
    variables = {weight.path: weight for weight in call.layer.weights}
    layer = call.layer.path or call.layer.name
    found = []
    for path, macs in count_call(call).items():
        if path and macs and path in variables:
            shape = tuple(int(size) for size in variables[path].shape)
            product, repeats = _product(call, path, shape, macs)
            found.append(
                UsedKernel(path=path, layer=layer, product=product, repeats=repeats)
            )
    return found


def _product(
    call: LayerCall, path: str, shape: tuple[int, ...], macs: int
) -> tuple[KernelProduct, int]:
    layer, batch = call.layer, call.output[0]
    if call.product is None:
        if isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D)):
            channels = {"inputs": shape[-2], "outputs": shape[-1]}
            product = _windowed("conv", call, shape, groups=layer.groups, **channels)
            return product, batch
        if isinstance(
            layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
        ):
            return _depthwise(call, shape), batch
        if hasattr(layer, "pointwise_kernel"):
            if path == layer.depthwise_kernel.path:
                return _depthwise(call, shape), batch
        elif isinstance(layer, keras.layers.RNN):
            steps = call.operands[0][1]
            return _dense(math.prod(shape[:-1]), shape[-1], macs // steps), steps
        elif isinstance(layer, keras.layers.EinsumDense):
            inputs = _contracted(layer.equation, shape)
            return _dense(inputs, math.prod(shape) // inputs, macs), 1
        elif isinstance(layer, _TRANSPOSED):
            return _dense(shape[-1], math.prod(shape[:-1]), macs), 1
    return _dense(math.prod(shape[:-1]), shape[-1], macs), 1


def _depthwise(call: LayerCall, kernel: tuple[int, ...]) -> KernelProduct:
    multiplier = kernel[-1]
    channels = {"outputs": kernel[-2] * multiplier, "multiplier": multiplier}
    return _windowed("depthwise", call, kernel, inputs=1, **channels)


def _dense(inputs: int, outputs: int, macs: int) -> KernelProduct:
    rows = max(1, macs // (inputs * outputs))
    return KernelProduct(kind="dense", inputs=inputs, outputs=outputs, rows=rows)


def _contracted(equation: str, kernel: tuple[int, ...]) -> int:
    """Product of the kernel's axes that the outputs do not have."""
    operands, _, outputs = equation.replace(" ", "").partition("->")
    letters = operands.split(",")[1]
    axes = zip(letters, kernel, strict=True)
    return math.prod(size for letter, size in axes if letter not in outputs)


def _windowed(
    kind: str, call: LayerCall, kernel: tuple[int, ...], **channels: int
) -> KernelProduct:
    layer = call.layer
    shape = call.operands[0]
    first = layer.data_format == "channels_first"
    padding = layer.padding
    size = _plane(shape[2:] if first else shape[1:-1])
    if padding == "causal":  # padded in front, then as "valid"
        reach = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        size, padding = (1, size[1] + reach), "valid"
    return KernelProduct(
        kind=kind,
        kernel=_plane(kernel[:-2]),
        size=size,
        strides=_plane(layer.strides),
        dilation=_plane(layer.dilation_rate),
        padding=padding,
        **channels,
    )


def _plane(sizes: Any) -> tuple[int, int]:
    """Height and width; sequences have the height 1."""
    pair = (1, *sizes)[-2:]
    return int(pair[0]), int(pair[1])
