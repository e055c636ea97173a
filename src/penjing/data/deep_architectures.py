"""Image classifiers of many layers: residual sums, and depthwise convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

_RESNET_WIDTHS = (16, 32, 64)
_RESNET_BLOCKS = 3
# Filters of the 1x1 convolution, and stride of the depthwise one before it.
_MOBILENET_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (256, 1),
    (256, 1),
)
_MOBILENET_STEM = 32

KERNELS = 40
"""Kernels that the larger of the two networks has at most."""


def resnet_20(
    shape: tuple[int, ...], classes: int, init: Iterator[keras.Initializer]
) -> keras.Model:
    """Three stages of three residual blocks, 16, 32 and 64 channels wide.

    A Functional model for images `(height, width)` or `(height, width, channels)` that
    gives `(batch, classes)` logits; `init` gives the initializers of the kernels in
    their order.

    Reference:
        He et al., 2015, https://arxiv.org/abs/1512.03385, section 4.2; where a stage
        begins, a 1x1 convolution stands in the short cut.
    """
    image, x = _image(shape)
    x = _relu(_convolved(x, _RESNET_WIDTHS[0], 3, 1, init, "stem"), "stem")
    for stage, width in enumerate(_RESNET_WIDTHS, start=1):
        for block in range(1, _RESNET_BLOCKS + 1):
            name = f"stage{stage}_block{block}"
            first = stage > 1 and block == 1
            stride = 2 if first else 1
            y = _relu(_convolved(x, width, 3, stride, init, f"{name}_1"), f"{name}_1")
            y = _convolved(y, width, 3, 1, init, f"{name}_2")
            if first:
                x = _convolved(x, width, 1, stride, init, f"{name}_shortcut")
            x = _relu(layers.Add(name=f"{name}_add")([x, y]), name)
    return _classified(image, x, classes, init, "resnet_20")


def mobilenet(
    shape: tuple[int, ...], classes: int, init: Iterator[keras.Initializer]
) -> keras.Model:
    """Seven depthwise-separable blocks, 32 to 256 channels wide.

    A Functional model for images `(height, width)` or `(height, width, channels)`, the
    sizes multiples of 8, that gives `(batch, classes)` logits; `init` gives the
    initializers of the kernels in their order. Where the stride is 2 the padding stands
    in a layer of its own, one pixel on every side. For even heights and widths it stays
    so in the file: sparse kernels need it.

    Reference:
        Howard et al., 2017, https://arxiv.org/abs/1704.04861
    """
    image, x = _image(shape)
    x = layers.ZeroPadding2D(1, name="stem_padding")(x)
    x = _relu(
        _convolved(x, _MOBILENET_STEM, 3, 2, init, "stem", padding="valid"), "stem"
    )
    for number, (filters, stride) in enumerate(_MOBILENET_BLOCKS, start=1):
        name = f"block{number}"
        if stride == 2:
            x = layers.ZeroPadding2D(1, name=f"{name}_padding")(x)
        x = layers.DepthwiseConv2D(
            3,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            depthwise_initializer=next(init),
            data_format="channels_last",
            name=f"{name}_depthwise",
        )(x)
        x = layers.BatchNormalization(name=f"{name}_depthwise_norm")(x)
        x = _relu(x, f"{name}_depthwise")
        x = _relu(_convolved(x, filters, 1, 1, init, name), name)
    return _classified(image, x, classes, init, "mobilenet")


def _image(shape: tuple[int, ...]) -> tuple[Any, Any]:
    image = keras.Input(shape, name="input")
    if len(shape) == 3:
        return image, image
    return image, layers.Reshape((*shape, 1), name="reshape")(image)


def _convolved(
    x: Any,
    filters: int,
    size: int,
    stride: int,
    init: Iterator[keras.Initializer],
    name: str,
    padding: str = "same",
) -> Any:
    x = layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer=next(init),
        data_format="channels_last",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(name=f"{name}_norm")(x)


def _relu(x: Any, name: str) -> Any:
    return layers.ReLU(name=f"{name}_relu")(x)


def _classified(
    image: Any, x: Any, classes: int, init: Iterator[keras.Initializer], name: str
) -> keras.Model:
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="pooling")(x)
    logits = layers.Dense(classes, kernel_initializer=next(init), name="dense")(x)
    return keras.Model(image, logits, name=name)
