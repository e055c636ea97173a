"""How LiteRT's int8 kernels run each Keras operation, as far as ranges go.

Reference:
    https://ai.google.dev/edge/litert/models/quantization_spec
"""

from __future__ import annotations

import enum
from typing import Any

import keras
import numpy as np


class Kind(enum.Enum):
    """What an operation asks of the ranges of its inputs and output."""

    COMPUTED = "its output has a range of its own"
    RECTIFIER = "as computed, or one operator with the one before"
    FIXED = "its output has a range that the runtime dictates"
    SHARED = "its output holds values of its input"
    ROUNDED = "its output has the range of its input, but values in between"
    JOINED = "all inputs and the output have one range"
    FLOAT = "runs in float"


# Activations that an operator computes on its own integers, before it writes them.
FUSED = ("linear", "relu", "relu6")
# Activation -> the scale and zero point that the runtime dictates.
FIXED_GRIDS = {
    "softmax": (1 / 256, -128),
    "sigmoid": (1 / 256, -128),
    "tanh": (1 / 128, 0),
}
WEIGHTED = frozenset(
    (
        "Conv1D",
        "Conv1DTranspose",
        "Conv2D",
        "Conv2DTranspose",
        "Dense",
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "SeparableConv1D",
        "SeparableConv2D",
    )
)
ARITHMETIC = frozenset(("Add", "Subtract", "Multiply"))
_AVERAGES = frozenset(("GlobalAveragePooling1D", "GlobalAveragePooling2D"))
_SHARED = frozenset(
    (
        "ActivityRegularization",
        "AlphaDropout",
        "Cropping1D",
        "Cropping2D",
        "Dropout",
        "ExpandDims",
        "Flatten",
        "GaussianDropout",
        "GaussianNoise",
        "GetItem",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "Identity",
        "MaxPooling1D",
        "MaxPooling2D",
        "Permute",
        "RepeatVector",
        "Reshape",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "Squeeze",
        "Transpose",
        "UpSampling1D",
        "UpSampling2D",
        "ZeroPadding1D",
        "ZeroPadding2D",
    )
)
_ROUNDED = frozenset(("AveragePooling1D", "AveragePooling2D"))
_JOINED = frozenset(("Concatenate", "Maximum", "Minimum", "Stack", "Where"))
_ACTIVATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
}


def kind_of(operation: Any, inputs: int) -> Kind:
    """How a layer, or an operation such as the one behind `x + y`, runs in integers.

    `inputs` is the number of tensors that it takes. Classes of users run in float, as
    nothing is known of them.
    """
    cls = type(operation)
    if cls.__module__.partition(".")[0] != "keras":
        return Kind.FLOAT
    name = cls.__name__
    activation = activation_of(operation)
    if name in ARITHMETIC:
        return Kind.COMPUTED if inputs == 2 else Kind.FLOAT
    if name in WEIGHTED or name in _AVERAGES:
        return Kind.COMPUTED if _has_kernel(operation) else Kind.FLOAT
    if name == "UpSampling2D" and operation.interpolation == "bilinear":
        return Kind.ROUNDED
    if name in _ROUNDED:
        return Kind.ROUNDED
    if name in _SHARED or activation == "linear":
        return Kind.SHARED
    if name in _JOINED:
        return Kind.JOINED
    if activation == "silu":
        return Kind.COMPUTED
    if activation in FUSED:
        return Kind.RECTIFIER
    return Kind.FIXED if activation in FIXED_GRIDS else Kind.FLOAT


def activation_of(operation: Any) -> str | None:
    """Name of the function that a layer or operation applies last; `None` if none.

    It is `"linear"`, `"relu"`, `"relu6"`, `"softmax"`, `"sigmoid"`, `"tanh"`, `"silu"`,
    or `"other"`.
    """
    name = type(operation).__name__
    if name == "ReLU":
        plain = operation.negative_slope == 0 and operation.threshold == 0
        known = {None: "relu", 6: "relu6"}
        return known.get(operation.max_value, "other") if plain else "other"
    if name == "Softmax" and getattr(operation, "axis", -1) != -1:
        return "other"
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    if name not in WEIGHTED and name != "Activation":
        return None
    return function_name(operation.activation)


def function_name(activation: Any) -> str:
    """The same for the `activation` of a layer."""
    for name in (*FUSED, *FIXED_GRIDS, "silu"):
        if activation is getattr(keras.activations, name):
            return name
    return "linear" if activation is None else "other"


def _has_kernel(operation: Any) -> bool:
    """Whether an integer kernel takes the layout and the dilation of a layer."""
    if getattr(operation, "data_format", None) == "channels_first":
        return False
    dilation = getattr(operation, "dilation_rate", 1)
    return type(operation).__name__ == "Conv2D" or set(np.ravel(dilation)) == {1}
