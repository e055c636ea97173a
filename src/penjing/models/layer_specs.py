"""The open table: layer class -> its compressible weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """One weight of a layer class.

    Args:
        attribute: Name of the layer's attribute that holds the variable.
        output_axes: Axes that index what the layer gives out; the others index what
            it takes in. `(-1,)` for a Dense or convolution kernel.
        skip_reason: Why this weight is left whole unless it is named; `None` where it
            is compressed.
    """

    attribute: str
    output_axes: tuple[int, ...] = (-1,)
    skip_reason: str | None = None


_DEPTHWISE_REASON = (
    "a depthwise kernel is small and sensitive: 9 weights a channel for 3x3"
)
_KERNEL = (WeightSpec(attribute="kernel"),)
_TRANSPOSED = (WeightSpec(attribute="kernel", output_axes=(-2,)),)
_RECURRENT = (
    WeightSpec(attribute="kernel"),
    WeightSpec(attribute="recurrent_kernel"),
)
_DEPTHWISE = (
    WeightSpec(attribute="kernel", output_axes=(-2, -1), skip_reason=_DEPTHWISE_REASON),
)
_SEPARABLE = (
    WeightSpec(
        attribute="depthwise_kernel",
        output_axes=(-2, -1),
        skip_reason=_DEPTHWISE_REASON,
    ),
    WeightSpec(attribute="pointwise_kernel"),
)

_SPECS: dict[type[keras.layers.Layer], tuple[WeightSpec, ...]] = {
    keras.layers.Dense: _KERNEL,
    keras.layers.EinsumDense: _KERNEL,
    keras.layers.Conv1D: _KERNEL,
    keras.layers.Conv2D: _KERNEL,
    keras.layers.Conv3D: _KERNEL,
    keras.layers.Conv1DTranspose: _TRANSPOSED,
    keras.layers.Conv2DTranspose: _TRANSPOSED,
    keras.layers.Conv3DTranspose: _TRANSPOSED,
    keras.layers.SeparableConv1D: _SEPARABLE,
    keras.layers.SeparableConv2D: _SEPARABLE,
    keras.layers.DepthwiseConv1D: _DEPTHWISE,
    keras.layers.DepthwiseConv2D: _DEPTHWISE,
    keras.layers.Embedding: (WeightSpec(attribute="embeddings"),),
    keras.layers.SimpleRNNCell: _RECURRENT,
    keras.layers.LSTMCell: _RECURRENT,
    keras.layers.GRUCell: _RECURRENT,
}


def register_layer_spec(
    layer_class: type[keras.layers.Layer], weights: Sequence[WeightSpec]
) -> None:
    """Make the weights of one's own layer class compressible.

    Subclasses of the class are covered too. Registering a class again replaces what
    was there.

    Args:
        layer_class: A `keras.layers.Layer` subclass.
        weights: One `WeightSpec` for each compressible weight.

    Raises:
        ValueError: If the class is not a Keras layer class, or `weights` no specs.

    Example:
        >>> class Projection(keras.layers.Layer):
        ...     def build(self, input_shape):
        ...         self.matrix = self.add_weight(shape=(input_shape[-1], 8))
        >>> register_layer_spec(Projection, [WeightSpec(attribute="matrix")])
    """
    check_layer_class(layer_class)
    if not isinstance(weights, Sequence) or not all(
        isinstance(weight, WeightSpec) for weight in weights
    ):
        raise ValueError(
            "`weights` must be a list of penjing.WeightSpec(attribute=...), got "
            f"{weights!r}."
        )
    _SPECS[layer_class] = tuple(weights)


def check_layer_class(layer_class: Any) -> None:
    """Refuse to register what is no layer class, with a ValueError."""
    known = isinstance(layer_class, type)
    if not known or not issubclass(layer_class, keras.layers.Layer):
        raise ValueError(
            "`layer_class` must be a subclass of keras.layers.Layer, got "
            f"{layer_class!r}."
        )


def find_weight_specs(layer: keras.layers.Layer) -> tuple[WeightSpec, ...]:
    """Weight specs of a layer, by its class or the nearest known base; maybe none."""
    for base in type(layer).__mro__:
        if base in _SPECS:
            return _SPECS[base]
    return ()
