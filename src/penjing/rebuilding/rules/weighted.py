"""Convolutions and dense layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from penjing.rebuilding.step import Apply, Array, NotRebuiltError, Step, with_fused

_IN_LAYER = (None, "relu", "relu6")


def convolution(step: Step) -> Apply:
    """CONV_2D; its weights are (output, height, width, input)."""
    weights = step.known(1, "a kernel")
    inputs = step.shape()[-1]
    layer = keras.layers.Conv2D(
        weights.shape[0],
        weights.shape[1:3],
        groups=inputs // weights.shape[3],
        **_window(step),
    )
    return _finished(step, layer, weights.transpose(1, 2, 3, 0))


def depthwise_convolution(step: Step) -> Apply:
    """DEPTHWISE_CONV_2D; its weights are (1, height, width, channels)."""
    weights = step.known(1, "a kernel")
    inputs, (_, *size, outputs) = step.shape()[-1], weights.shape
    window = _window(step)
    if inputs == 1 and outputs > 1:
        layer = keras.layers.Conv2D(outputs, size, **window)
        return _finished(step, layer, weights.transpose(1, 2, 0, 3))
    layer = keras.layers.DepthwiseConv2D(
        size, depth_multiplier=outputs // inputs, **window
    )
    kernel = weights.reshape(*size, inputs, outputs // inputs)
    return _finished(step, layer, kernel)


def transposed_convolution(step: Step) -> Apply:
    """TRANSPOSE_CONV; its weights are (output, height, width, input)."""
    weights = step.known(1, "a kernel")
    outputs, *size, _ = weights.shape
    strides = (step.option("stride_h"), step.option("stride_w"))
    layer = keras.layers.Conv2DTranspose(
        outputs,
        size,
        strides=strides,
        padding=step.padding,
        use_bias=step.has(3),
        name=step.name,
    )
    wanted, given = step.output_shape[1:3], step.shape(2)[1:3]
    made = layer.compute_output_shape((None, *step.shape(2)[1:]))[1:3]
    if tuple(made) != wanted:
        raise NotRebuiltError(f"the output {wanted} of {given} by strides {strides}")
    step.built(layer, [weights.transpose(1, 2, 0, 3), _bias(step, 3)], place=2)
    return with_fused(step, layer)


def convolution_3d(step: Step) -> Apply:
    """CONV_3D; its weights are those of Keras."""
    kernel = step.known(1, "a kernel")
    axes = "dhw"
    layer = keras.layers.Conv3D(
        kernel.shape[-1],
        kernel.shape[:3],
        strides=tuple(step.option(f"stride_{axis}") for axis in axes),
        dilation_rate=tuple(step.option(f"dilation_{axis}_factor") for axis in axes),
        padding=step.padding,
        use_bias=step.has(2),
        name=step.name,
    )
    return with_fused(step, step.built(layer, [kernel, _bias(step, 2)]))


def dense(step: Step) -> Apply:
    """FULLY_CONNECTED; its weights are (output, input)."""
    weights = step.constant(1)
    if weights is None:
        return _product_with_computed(step)
    if step.option("weights_format"):
        raise NotRebuiltError("weights in a shuffled order")
    layer = keras.layers.Dense(
        weights.shape[0],
        activation=_activation(step),
        use_bias=step.has(2),
        name=step.name,
    )
    shape, width = step.shape(), weights.shape[1]
    flattens = len(step.output_shape) != len(shape) or shape[-1] != width
    inner = (width,) if flattens else (*shape[1:-1], width)
    step.built(layer, [weights.T, _bias(step, 2)], shape=inner)
    finished = _fused_apart(step, layer)
    if not flattens:
        return finished
    if shape[0] == step.output_shape[0] and len(step.output_shape) == 2:
        return lambda x: finished(keras.layers.Flatten()(x))
    return lambda x: finished(keras.ops.reshape(x, (-1, width)))


def _product_with_computed(step: Step) -> Apply:
    if step.has(2):
        bias = step.known(2, "a bias")
        return with_fused(step, lambda x, w: _matmul(x, w) + bias)
    return with_fused(step, _matmul)


def _matmul(x: Any, weights: Any) -> Any:
    return keras.ops.matmul(x, keras.ops.transpose(weights))


def _window(step: Step) -> dict[str, Any]:
    return {
        "strides": (step.option("stride_h"), step.option("stride_w")),
        "dilation_rate": (
            step.option("dilation_h_factor"),
            step.option("dilation_w_factor"),
        ),
        "padding": step.padding,
        "activation": _activation(step),
        "use_bias": step.has(2),
        "name": step.name,
    }


def _activation(step: Step) -> str | None:
    return step.fused if step.fused in _IN_LAYER else None


def _finished(step: Step, layer: Any, kernel: Array) -> Apply:
    return _fused_apart(step, step.built(layer, [kernel, _bias(step, 2)]))


def _bias(step: Step, place: int) -> Array | None:
    if not step.has(place):
        return None
    return np.asarray(step.known(place, "a bias").reshape(-1))


def _fused_apart(step: Step, layer: Any) -> Apply:
    return layer if step.fused in _IN_LAYER else with_fused(step, layer)
