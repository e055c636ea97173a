"""The image classifiers that the benchmarks and the demo train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from penjing.arguments import check_integer, unknown_name
from penjing.data.deep_architectures import KERNELS, mobilenet, resnet_20

_Layers = list[Any]


def build_architecture(
    name: str,
    input_shape: Sequence[int] = (28, 28),
    classes: int = 10,
    seed: int = 0,
) -> keras.Model:
    """Build an untrained, uncompiled image classifier with logits as output.

    | name | layers | parameters for 28x28 and 10 classes |
    |---|---|---|
    | `article` | 12 convolutions 3x3, pooling, Dense | 20,410 |
    | `lenet-300-100` | Dense 300, 100 | 266,610 |
    | `lenet-5` | convolutions 5x5 20 and 50 with pooling, Dense 500 | 431,080 |
    | `cnn` | convolutions 3x3 32 and 64 with pooling, Dense 128 | 421,642 |
    | `resnet-20` | nine residual blocks, 16 to 64 channels | 273,754 |
    | `mobilenet` | seven depthwise-separable blocks, 32 to 256 channels | 278,922 |

    Every layer draws its initial weights from its own seed, derived from `seed`.
    Keras' global seed is neither read nor changed.

    Args:
        name: One of the names in the table.
        input_shape: `(height, width)` or `(height, width, channels)`.
        classes: Number of classes, the length of the output.
        seed: The same seed gives the same initial weights on one backend.

    Returns:
        A model that takes `(batch, *input_shape)` and gives `(batch, classes)` logits:
        use `from_logits=True` in the loss. Sequential, but for the last two.

    Raises:
        ValueError: If the name is unknown, or the shape, the number of classes
            or the seed is not possible.

    Example:
        >>> build_architecture("article").count_params()
        20410

    Reference:
        LeCun et al., 1998, "Gradient-based learning applied to document
        recognition", for the two LeNets; lenet-5 has Caffe's sizes.
    """
    if name not in _ARCHITECTURES:
        raise ValueError(unknown_name("architecture", name, _ARCHITECTURES))
    build, smallest = _ARCHITECTURES[name]
    shape = _checked_shape(name, input_shape, smallest)
    hint = " It is the number of labels in the data."
    check_integer("classes", classes, least=2, hint=hint)
    check_integer("seed", seed, least=0)
    body = build(shape, int(classes), _initializers(int(seed)))
    if isinstance(body, keras.Model):
        return body
    return keras.Sequential(
        [keras.Input(shape, name="input"), *body], name=name.replace("-", "_")
    )


def _initializers(seed: int) -> Iterator[keras.Initializer]:
    """Give Keras' default kernel initializer, each time with its own seed."""
    for state in np.random.SeedSequence(seed).generate_state(KERNELS):
        yield keras.initializers.GlorotUniform(seed=int(state) >> 1)


def _article(shape: tuple[int, ...], classes: int, init: Any) -> _Layers:
    return [
        *_with_channels(shape),
        _convolution("conv2d", 12, 3, "valid", init),
        keras.layers.MaxPooling2D(2, name="max_pooling2d"),
        keras.layers.Flatten(name="flatten"),
        _dense("dense", classes, None, init),
    ]


def _lenet_300_100(shape: tuple[int, ...], classes: int, init: Any) -> _Layers:
    return [
        keras.layers.Flatten(name="flatten"),
        _dense("dense", 300, "relu", init),
        _dense("dense_1", 100, "relu", init),
        _dense("dense_2", classes, None, init),
    ]


def _lenet_5(shape: tuple[int, ...], classes: int, init: Any) -> _Layers:
    return [
        *_with_channels(shape),
        _convolution("conv2d", 20, 5, "valid", init, activation=None),
        keras.layers.MaxPooling2D(2, name="max_pooling2d"),
        _convolution("conv2d_1", 50, 5, "valid", init, activation=None),
        keras.layers.MaxPooling2D(2, name="max_pooling2d_1"),
        keras.layers.Flatten(name="flatten"),
        _dense("dense", 500, "relu", init),
        _dense("dense_1", classes, None, init),
    ]


def _cnn(shape: tuple[int, ...], classes: int, init: Any) -> _Layers:
    return [
        *_with_channels(shape),
        _convolution("conv2d", 32, 3, "same", init),
        keras.layers.MaxPooling2D(2, name="max_pooling2d"),
        _convolution("conv2d_1", 64, 3, "same", init),
        keras.layers.MaxPooling2D(2, name="max_pooling2d_1"),
        keras.layers.Flatten(name="flatten"),
        _dense("dense", 128, "relu", init),
        _dense("dense_1", classes, None, init),
    ]


# Name -> function that gives the layers or the model, smallest height and width.
_ARCHITECTURES: dict[str, tuple[Callable[..., _Layers | keras.Model], int]] = {
    "article": (_article, 4),
    "lenet-300-100": (_lenet_300_100, 1),
    "lenet-5": (_lenet_5, 16),
    "cnn": (_cnn, 4),
    "resnet-20": (resnet_20, 4),
    "mobilenet": (mobilenet, 8),
}


def _with_channels(shape: tuple[int, ...]) -> _Layers:
    if len(shape) == 3:
        return []
    return [keras.layers.Reshape((*shape, 1), name="reshape")]


def _convolution(
    name: str,
    filters: int,
    size: int,
    padding: str,
    init: Iterator[keras.Initializer],
    activation: str | None = "relu",
) -> Any:
    return keras.layers.Conv2D(
        filters,
        size,
        padding=padding,
        activation=activation,
        kernel_initializer=next(init),
        data_format="channels_last",
        name=name,
    )


def _dense(
    name: str, units: int, activation: str | None, init: Iterator[keras.Initializer]
) -> Any:
    return keras.layers.Dense(
        units, activation=activation, kernel_initializer=next(init), name=name
    )


def _checked_shape(
    name: str, input_shape: Sequence[int], smallest: int
) -> tuple[int, ...]:
    shape = tuple(input_shape) if isinstance(input_shape, Iterable) else ()
    if len(shape) not in (2, 3) or not all(
        _is_integer(size) and size > 0 for size in shape
    ):
        raise ValueError(
            "`input_shape` must be (height, width) or (height, width, channels), "
            f"positive integers without the batch, got {input_shape!r}."
        )
    if min(shape[:2]) < smallest:
        raise ValueError(
            f"`input_shape` is too small for {name!r}: height and width must be at "
            f"least {smallest}, got {input_shape!r}. Enlarge the images or choose "
            "'lenet-300-100', which takes any size."
        )
    return tuple(int(size) for size in shape)


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
