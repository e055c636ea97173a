"""The open table: layer class -> what it does with channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from penjing.channels.rules import (
    attention_rules,
    block_rules,
    dense_rules,
    elementwise_rules,
    recurrent_rules,
    shape_rules,
)
from penjing.channels.rules.trace import ChannelStep
from penjing.channels.rules.units import Layout

ChannelRule: TypeAlias = Callable[[ChannelStep], Layout | list[Layout]]


def _by_name(names: dict[ChannelRule, str]) -> dict[str, ChannelRule]:
    return {name: rule for rule, text in names.items() for name in text.split()}


_LAYERS = _by_name(
    {
        dense_rules.trace_dense: "Dense",
        dense_rules.trace_einsum_dense: "EinsumDense",
        dense_rules.trace_embedding: "Embedding",
        dense_rules.trace_reversible_embedding: "ReversibleEmbedding",
        dense_rules.trace_convolution: "Conv1D Conv2D Conv3D",
        dense_rules.trace_transposed_convolution: (
            "Conv1DTranspose Conv2DTranspose Conv3DTranspose"
        ),
        dense_rules.trace_depthwise_convolution: "DepthwiseConv1D DepthwiseConv2D",
        dense_rules.trace_separable_convolution: "SeparableConv1D SeparableConv2D",
        recurrent_rules.trace_recurrent: "RNN SimpleRNN LSTM GRU",
        recurrent_rules.trace_bidirectional: "Bidirectional",
        recurrent_rules.trace_convolutional_recurrent: (
            "ConvLSTM1D ConvLSTM2D ConvLSTM3D"
        ),
        attention_rules.trace_multi_head_attention: "MultiHeadAttention",
        attention_rules.trace_grouped_query_attention: (
            "GroupQueryAttention GroupedQueryAttention"
        ),
        elementwise_rules.trace_batch_normalization: "BatchNormalization",
        elementwise_rules.trace_group_normalization: "GroupNormalization",
        elementwise_rules.trace_along: (
            "LayerNormalization RMSNormalization UnitNormalization Softmax"
        ),
        elementwise_rules.trace_rescaling: "Rescaling",
        elementwise_rules.trace_prelu: "PReLU",
        elementwise_rules.trace_layer_scale: "LayerScale",
        elementwise_rules.trace_activation: "Activation",
        elementwise_rules.trace_dropout: (
            "Dropout AlphaDropout SpatialDropout1D SpatialDropout2D SpatialDropout3D"
        ),
        elementwise_rules.trace_unchanged: (
            "ReLU LeakyReLU ELU Identity GaussianDropout GaussianNoise "
            "ActivityRegularization StochasticDepth"
        ),
        elementwise_rules.trace_spatial: (
            "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D "
            "AveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D "
            "AdaptiveMaxPooling3D AdaptiveAveragePooling1D AdaptiveAveragePooling2D "
            "AdaptiveAveragePooling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D "
            "Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D "
            "Resizing CenterCrop"
        ),
        elementwise_rules.trace_global_pooling: (
            "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
            "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D"
        ),
        elementwise_rules.trace_merge: (
            "Add Subtract Multiply Average Maximum Minimum CustomScaleLayer"
        ),
        shape_rules.trace_concatenate: "Concatenate",
        shape_rules.trace_reshape: "Flatten Reshape",
        shape_rules.trace_permute: "Permute",
        shape_rules.trace_repeat_vector: "RepeatVector",
    }
)

_OPERATIONS = _by_name(
    {
        elementwise_rules.trace_elementwise: (
            "Abs Absolute Add Cast Celu Ceil Clip Copy Cos Divide DivideNoNan Elu "
            "Equal Erf Exp Expm1 Floor Gelu Greater GreaterEqual HardShrink "
            "HardSigmoid HardSilu HardTanh LeakyRelu Less LessEqual Log Log1p "
            "LogSigmoid LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Multiply "
            "Negative NotEqual Power Reciprocal Relu Relu6 Round Rsqrt Selu Sigmoid "
            "Sign Silu Sin SoftShrink Softplus Softsign SparsePlus SparseSigmoid Sqrt "
            "Square Squareplus StopGradient Subtract Tan Tanh TanhShrink Threshold "
            "TrueDivide Where"
        ),
        shape_rules.trace_reduction: "Amax Amin Max Mean Min Prod Std Sum Var",
        elementwise_rules.trace_along: "Softmax LogSoftmax",
        elementwise_rules.trace_spatial: "MaxPool AveragePool Resize",
        shape_rules.trace_concatenate: "Concatenate",
        shape_rules.trace_stack: "Stack",
        shape_rules.trace_split: "Split",
        shape_rules.trace_item: "GetItem",
        shape_rules.trace_reshape: "Reshape",
        shape_rules.trace_transpose: "Transpose",
        shape_rules.trace_swapped_axes: "Swapaxes",
        shape_rules.trace_expand_dims: "ExpandDims",
        shape_rules.trace_squeeze: "Squeeze",
        shape_rules.trace_pad: "Pad",
    }
)

_OWN: dict[type[Any], ChannelRule] = {}


def register_channel_rule(
    layer_class: type[keras.layers.Layer],
    rule: ChannelRule | type[keras.layers.Layer],
) -> None:
    """Say what one's own layer class does with channels, so that they can be removed.

    Subclasses of the class are covered too. Registering a class again replaces what
    was there.

    Args:
        layer_class: A subclass of `keras.layers.Layer`.
        rule: A layer class of Keras that does the same with channels, such as
            `keras.layers.ReLU` for what handles each value by itself and has no
            weights, or `keras.layers.Dense` for a subclass of it with the same
            weights and config; or a function that follows the channels of one call,
            from `ChannelStep` to the layout of the output.

    Raises:
        ValueError: If the class is no layer class, or nothing is known of `rule`.

    Example:
        >>> import keras, penjing
        >>> class Doubled(keras.layers.Layer):
        ...     def call(self, x):
        ...         return 2 * x
        >>> penjing.register_channel_rule(Doubled, keras.layers.ReLU)
    """
    if not (
        isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)
    ):
        raise ValueError(
            "`layer_class` must be a subclass of keras.layers.Layer, got "
            f"{layer_class!r}."
        )
    if isinstance(rule, type):
        known = _LAYERS.get(rule.__name__) if _is_of_keras(rule) else None
        if known is None:
            raise ValueError(
                "`rule` must be a layer class of Keras whose channels can be followed, "
                f"such as keras.layers.ReLU, or a function, got {rule!r}."
            )
        rule = known
    if not callable(rule):
        raise ValueError(
            "`rule` must be a layer class of Keras or a function that takes a "
            f"ChannelStep, got {rule!r}."
        )
    _OWN[layer_class] = rule


def find_channel_rule(operation: Any) -> ChannelRule | None:
    """The rule for a layer or operation.

    A user's subclass of a layer of Keras may do anything: it is found only if it, or
    a base class, was registered, or its name is in the table of another package. One
    that says nothing of its own there is what it inherits from.
    """
    for base in type(operation).__mro__:
        if base in _OWN:
            return _OWN[base]
    if not _is_of_keras(type(operation)):
        return _rule_by_name(type(operation))
    layer = isinstance(operation, keras.layers.Layer)
    return (_LAYERS if layer else _OPERATIONS).get(type(operation).__name__)


def _rule_by_name(kind: type[Any]) -> ChannelRule | None:
    known = block_rules.RULES_BY_NAME.get(_package_of(kind))
    if known is None:
        return None
    base = kind.__mro__[1]
    if _is_of_keras(base) and "call" not in vars(kind):
        return _LAYERS.get(base.__name__)
    return known.get(kind.__name__)


def _is_of_keras(kind: type[Any]) -> bool:
    return _package_of(kind) == "keras"


def _package_of(kind: type[Any]) -> str:
    return kind.__module__.partition(".")[0]
