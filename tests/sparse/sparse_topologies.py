"""Small networks, each with one trait that decides what sparse kernels make of it.

What the WebAssembly build of LiteRT (npm package `@litertjs/core` 2.5.3) does with the
sparse-encoded file of each was measured:

- "fast": right, and sparse kernels run it;
- "dense": right, but dense kernels run it, so zeros buy no time;
- "wrong": the outputs are silently wrong. Never to be exported with sparse encoding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from penjing.sparse.sparse_weights import SparseWeight, store_sparse
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.tensors import is_plain

Tensor = Any


_WHOLE = "whole"
"""Name of a dense layer that gets no zeros."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """How to build a network, and what the runtime makes of it.

    Attributes:
        outcome: "fast", "dense" or "wrong", in WebAssembly.
        body: From the image and the width to the features or the outputs.
        sparsity: Fraction of zeros in its 1x1 and Dense kernels.
        odd: Whether height and width of the image are odd.
        channels: Channels of the image.
        headless: Whether `body` gives the outputs itself.
    """

    outcome: str
    body: Callable[[Tensor, int], Tensor]
    sparsity: float = 0.9
    odd: bool = False
    channels: int = 3
    headless: bool = False


def build_topology(
    name: str, *, size: int = 32, width: int = 16, seed: int = 0
) -> keras.Model:
    """Build one of `TOPOLOGIES` with random weights and zeros in them.

    Args:
        name: Its name.
        size: Height and width of the image, a multiple of 8; larger ones make times
            that can be measured.
        width: Channels of the first layers.
        seed: Of the weights.
    """
    topology = TOPOLOGIES[name]
    size = size + 1 if topology.odd else size
    image = keras.Input((size, size, topology.channels), name="image")
    x = topology.body(image, width)
    if not topology.headless:
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(10)(x)
    model = keras.Model(image, x, name=name)
    _fill(model, topology.sparsity, seed)
    return model


def image_samples(model: keras.Model, count: int = 4, seed: int = 1) -> np.ndarray:
    """Random images for a model."""
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sparse_unchecked(content: bytes) -> bytes:
    """The file with all its 1x1 convolutions sparse-encoded, right or wrong.

    Args:
        content: The bytes of a dense float32 or float16 file.
    """
    model = load_records(content, "the file")
    graph = model["subgraphs"][0]
    makers = {int(op["outputs"][0]): op for op in graph["operators"]}
    chosen = []
    for operator in graph["operators"]:
        weights = int(operator["inputs"][1]) if len(operator["inputs"]) > 1 else -1
        if operator_code(model, operator) != Operator.CONV_2D:
            continue
        if weights in makers:  # DEQUANTIZE, of float16 weights
            weights = int(makers[weights]["inputs"][0])
        tensor = graph["tensors"][weights]
        if tuple(tensor["shape"][1:3]) == (1, 1) and is_plain(model, tensor):
            chosen.append(SparseWeight(graph=0, tensor=weights))
    return edited(content, store_sparse, chosen)


def edited(content: bytes, change: Callable[..., Any], *args: Any) -> bytes:
    """The bytes of a file after an edit of its records."""
    file = EditedFile(content, "it")
    file.edit(lambda model: change(model, *args))
    return file.content


def _fill(model: keras.Model, sparsity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            shape = tuple(weight.shape)
            value = rng.normal(size=shape)
            if weight.name in ("gamma", "moving_variance"):
                value = 0.5 + rng.random(shape)
            elif weight.name == "kernel":
                fans = np.prod(shape[:-1])
                if layer.__class__.__name__ == "DepthwiseConv2D":
                    fans = np.prod(shape[:2])
                value *= np.sqrt(2 / fans)
                if _takes_zeros(layer, shape):
                    kept = rng.random(shape) >= sparsity
                    value *= kept / np.sqrt(1 - sparsity)
            else:
                value *= 0.1
            values.append(value.astype("float32"))
        layer.set_weights(values)


def _takes_zeros(layer: Any, shape: tuple[int, ...]) -> bool:
    pointwise = isinstance(layer, layers.Conv2D) and shape[:2] == (1, 1)
    dense = isinstance(layer, layers.Dense) and layer.name != _WHOLE
    return pointwise or dense


# Parts


def _stem(x: Tensor, width: int, padding: Any = 1) -> Tensor:
    """A 3x3 convolution with stride 2; "same", or behind explicit padding."""
    if padding == "same":
        x = layers.Conv2D(width, 3, strides=2, padding="same")(x)
    else:
        x = layers.ZeroPadding2D(padding)(x)
        x = layers.Conv2D(width, 3, strides=2, padding="valid")(x)
    return layers.ReLU()(x)


def _block(
    x: Tensor,
    width: int,
    stride: int = 1,
    *,
    kernel: int = 3,
    padding: Any = None,
    dilation: int = 1,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """A depthwise convolution and a 1x1 convolution."""
    activation = activation or layers.ReLU(6.0)
    if stride == 2 and padding != "same":
        x = layers.ZeroPadding2D(kernel // 2 if padding is None else padding)(x)
    mode = "valid" if stride == 2 and padding != "same" else "same"
    x = layers.DepthwiseConv2D(
        kernel, strides=stride, padding=mode, dilation_rate=dilation, use_bias=False
    )(x)
    x = activation(layers.BatchNormalization()(x))
    x = layers.Conv2D(width, 1, use_bias=False)(x)
    return activation(layers.BatchNormalization()(x))


def _blocks(x: Tensor, width: int, **how: Any) -> Tensor:
    x = _block(_stem(x, width), 2 * width, **how)
    x = _block(x, 4 * width, 2, **how)
    return _block(x, 4 * width, **how)


def _interrupted(operation: Callable[[int], Any]) -> Callable[[Tensor, int], Tensor]:
    """Three blocks, with one operation behind the first of them."""

    def body(x: Tensor, width: int) -> Tensor:
        x = _block(_stem(x, width), 2 * width)
        x = operation(2 * width)(x)
        return _block(_block(x, 4 * width), 4 * width)

    return body


def _activated(activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, width: _blocks(x, width, activation=activation)


# Bodies


def _residual(x: Tensor, width: int) -> Tensor:
    """Inverted residuals with linear bottlenecks, as in MobileNetV2."""
    x = _stem(x, width)
    for stride in (2, 1, 1):
        shortcut = x
        x = layers.ReLU(6.0)(layers.Conv2D(4 * width, 1)(x))
        if stride == 2:
            x = layers.ZeroPadding2D(1)(x)
        x = layers.DepthwiseConv2D(
            3, strides=stride, padding="valid" if stride == 2 else "same"
        )(x)
        x = layers.ReLU(6.0)(x)
        x = layers.Conv2D(width, 1)(x)
        if stride == 1:
            x = layers.Add()([shortcut, x])
    return layers.ReLU(6.0)(layers.Conv2D(4 * width, 1)(x))


def _upsampled(x: Tensor, width: int) -> Tensor:
    x = _blocks(x, width)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return _block(x, 4 * width)


def _squeeze_excite(x: Tensor, width: int) -> Tensor:
    x = _block(_stem(x, width), 2 * width)
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Dense(width, activation="relu")(gate)
    gate = layers.Dense(2 * width, activation="sigmoid")(gate)
    x = layers.Multiply()([x, layers.Reshape((1, 1, 2 * width))(gate)])
    return _block(x, 4 * width)


def _concatenated(x: Tensor, width: int) -> Tensor:
    x = _block(_stem(x, width), 2 * width)
    x = layers.Concatenate()([x, _block(x, 2 * width)])
    return _block(x, 4 * width)


def _branches_joined(x: Tensor, width: int) -> Tensor:
    x = _block(_stem(x, width), 2 * width)
    x = layers.Concatenate()([_block(x, width), _block(x, 2 * width)])
    return _block(x, 4 * width)


def _flattened(x: Tensor, width: int) -> Tensor:
    x = _block(_blocks(x, width), 8, 2)
    return layers.Dense(10)(layers.Flatten()(x))


def _asymmetric(x: Tensor, width: int) -> Tensor:
    """The padding of keras.applications' MobileNet."""
    corner = ((0, 1), (0, 1))
    x = _block(_stem(x, width, corner), 2 * width)
    return _block(_block(x, 4 * width, 2, padding=corner), 4 * width)


def _asymmetric_inside(x: Tensor, width: int) -> Tensor:
    corner = ((0, 1), (0, 1))
    x = _block(_stem(x, width), 2 * width)
    return _block(_block(x, 4 * width, 2, padding=corner), 4 * width)


def _stride_2_same(x: Tensor, width: int) -> Tensor:
    x = _block(_stem(x, width), 2 * width)
    return _block(_block(x, 4 * width, 2, padding="same"), 4 * width)


def _classified_by_convolution(x: Tensor, width: int) -> Tensor:
    x = layers.GlobalAveragePooling2D(keepdims=True)(_blocks(x, width))
    return layers.Flatten()(layers.Conv2D(10, 1)(x))


def _two_dense(x: Tensor, width: int) -> Tensor:
    x = layers.GlobalAveragePooling2D()(_blocks(x, width))
    return layers.Dense(10)(layers.Dense(4 * width, activation="relu")(x))


def _softmax(x: Tensor, width: int) -> Tensor:
    x = layers.GlobalAveragePooling2D()(_blocks(x, width))
    return layers.Dense(10, activation="softmax")(x)


def _features_alone(x: Tensor, width: int) -> Tensor:
    return layers.GlobalAveragePooling2D()(_blocks(x, width))


def _kept_axes(x: Tensor, width: int) -> Tensor:
    x = layers.GlobalAveragePooling2D(keepdims=True)(_blocks(x, width))
    return layers.Dense(10)(layers.Flatten()(x))


def _two_outputs(x: Tensor, width: int) -> list[Tensor]:
    x = _blocks(x, width)
    pooled = layers.GlobalAveragePooling2D()(x)
    return [layers.Dense(10)(pooled), layers.Dense(2)(pooled)]


def _features_as_output(x: Tensor, width: int) -> list[Tensor]:
    features = _block(_stem(x, width), 2 * width)
    pooled = layers.GlobalAveragePooling2D()(_block(features, 4 * width))
    return [layers.Dense(10)(pooled), features]


def _dense_on_features(x: Tensor, width: int) -> Tensor:
    x = _block(_stem(x, width), 2 * width)
    return _block(layers.Dense(4 * width)(x), 4 * width)


def _global_maximum(x: Tensor, width: int) -> Tensor:
    return layers.Dense(10)(layers.GlobalMaxPooling2D()(_blocks(x, width)))


def _normalized_late(x: Tensor, width: int) -> Tensor:
    """A batch normalization that no convolution can take up."""
    x = _block(_stem(x, width), 2 * width)
    return _block(layers.BatchNormalization()(x), 4 * width)


def _depthwise_stem(x: Tensor, width: int) -> Tensor:
    x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    return _block(_block(x, 2 * width), 4 * width, 2)


def _whole_head(x: Tensor, width: int) -> Tensor:
    features = layers.GlobalAveragePooling2D()(_blocks(x, width))
    return layers.Dense(60, name=_WHOLE)(features)


@keras.saving.register_keras_serializable("sparse_topologies")
class _DepthToSpace(layers.Layer):
    def call(self, inputs: Tensor) -> Tensor:
        import tensorflow as tf

        return tf.nn.depth_to_space(inputs, 2)


def _pooled_late(end: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A pooling between two 1x1 convolutions, then one more end of the features."""

    def body(x: Tensor, width: int) -> Tensor:
        x = layers.ReLU()(layers.Conv2D(4 * width, 1)(_stem(x, width)))
        x = layers.MaxPooling2D(2)(layers.Conv2D(4 * width, 1)(x))
        return end(layers.Conv2D(4 * width, 1)(x))

    return body


def _ended(end: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, width: end(_blocks(x, width))


def _activated_and_pooled(x: Tensor, width: int) -> Tensor:
    x = layers.Activation("gelu")(_stem(x, width))
    x = layers.MaxPooling2D(2)(layers.Conv2D(4 * width, 1)(x))
    return layers.Conv2D(4 * width, 1)(x)


def _summed(x: Tensor) -> Tensor:
    return ops.sum(x, axis=(1, 2))


def _mean_of_channels(x: Tensor) -> Tensor:
    return ops.mean(x, axis=-1, keepdims=True)


TOPOLOGIES: dict[str, Topology] = {
    "mobilenet": Topology("fast", _blocks),
    "residual": Topology("fast", _residual),
    "depthwise_5x5": Topology("fast", lambda x, w: _blocks(x, w, kernel=5)),
    "hard_swish": Topology("fast", _activated(layers.Activation("hard_swish"))),
    "swish": Topology("fast", _activated(layers.Activation("swish"))),
    "leaky_relu": Topology("fast", _activated(layers.LeakyReLU(0.1))),
    "elu_and_tanh": Topology(
        "fast", _activated(lambda x: layers.Activation("tanh")(layers.ELU()(x)))
    ),
    "bilinear_upsampling": Topology("fast", _upsampled),
    "stem_same": Topology(
        "dense",
        lambda x, w: _block(
            _block(_block(_stem(x, w, "same"), 2 * w), 4 * w, 2), 4 * w
        ),
    ),
    "squeeze_excite": Topology("dense", _squeeze_excite),
    "concatenation": Topology("dense", _concatenated),
    "no_global_pooling": Topology("dense", _flattened, headless=True),
    "asymmetric_padding": Topology("dense", _asymmetric),
    "few_zeros": Topology("dense", _blocks, sparsity=0.6),
    "whole_head": Topology("fast", _whole_head, sparsity=0.75, headless=True),
    "odd_size": Topology("dense", _blocks, odd=True),
    "stride_2_same": Topology("wrong", _stride_2_same),
    "max_pooling": Topology("wrong", _interrupted(lambda _: layers.MaxPooling2D(2))),
    "average_pooling": Topology(
        "wrong", _interrupted(lambda _: layers.AveragePooling2D(2))
    ),
    "ordinary_convolution": Topology(
        "wrong",
        _interrupted(lambda w: layers.Conv2D(w, 3, padding="same", activation="relu")),
    ),
    "dilated_depthwise": Topology(
        "dense",
        _interrupted(
            lambda _: layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)
        ),
    ),
    "convolution_behind_pooling": Topology(
        "wrong", _classified_by_convolution, headless=True
    ),
    "grey_image": Topology("dense", _blocks, channels=1),
    "two_dense": Topology("fast", _two_dense, headless=True),
    "softmax": Topology("fast", _softmax, headless=True),
    "features_alone": Topology("fast", _features_alone, headless=True),
    "kept_axes": Topology("fast", _kept_axes, headless=True),
    "two_outputs": Topology("fast", _two_outputs, headless=True),
    "features_as_output": Topology("wrong", _features_as_output, headless=True),
    "dense_on_features": Topology("dense", _dense_on_features),
    "global_maximum": Topology("dense", _global_maximum, headless=True),
    "normalized_late": Topology("wrong", _normalized_late),
    "branches_joined": Topology("wrong", _branches_joined),
    "asymmetric_inside": Topology("wrong", _asymmetric_inside),
    "depthwise_stem": Topology("dense", _depthwise_stem),
    "prelu": Topology(
        "wrong", _interrupted(lambda _: layers.PReLU(shared_axes=[1, 2]))
    ),
    "squared": Topology("fast", _interrupted(lambda _: lambda x: x * x)),
    "added_to_itself": Topology("dense", _interrupted(lambda _: lambda x: x + x)),
    "gelu": Topology("fast", _activated(layers.Activation("gelu"))),
    "summed": Topology("fast", _ended(_summed), headless=True),
    "depth_to_space": Topology("fast", _ended(_DepthToSpace()), headless=True),
    "gelu_and_pooling": Topology("wrong", _activated_and_pooled),
    "pooling_and_sum": Topology("wrong", _pooled_late(_summed), headless=True),
    "pooling_and_depth_to_space": Topology(
        "wrong", _pooled_late(_DepthToSpace()), headless=True
    ),
    "mean_of_channels": Topology("wrong", _ended(_mean_of_channels), headless=True),
    "padding_alone": Topology("wrong", _interrupted(lambda _: layers.ZeroPadding2D(2))),
}
