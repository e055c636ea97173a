"""Marks on the layers that are to be quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from penjing.engine.compressed_layer import CompressedLayer
from penjing.engine.stripping import find_compressed_layers, is_compressed
from penjing.errors import UnsupportedModelError
from penjing.models.copying import clone_graph, copy_values, is_functional
from penjing.models.keras_private import take_input_shape
from penjing.models.layer_making import build_as, make_layer_again
from penjing.tfmot.quantize_config import QuantizeConfig


@keras.saving.register_keras_serializable("penjing.tfmot")
class QuantizeAnnotate(CompressedLayer):
    """A layer with the mark that `quantize_apply` looks for; it computes the same.

    Args:
        layer: The layer.
        quantize_config: How it is rounded; `None` leaves that to the scheme.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    parts = ("quantize_config",)

    def __init__(
        self,
        layer: keras.layers.Layer,
        quantize_config: QuantizeConfig | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("name", f"quantize_annotate_{layer.name}")
        super().__init__(layer, [], **kwargs)
        self.quantize_config = quantize_config
        take_input_shape(layer, self)

    def build(self, input_shape: Any = None) -> None:
        """Build the layer where it is not."""
        if not self.layer.built:
            self.layer.build(input_shape)
        self._attach_transforms()

    def get_config(self) -> dict[str, Any]:
        """Layer and config, serialized by Keras."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layer": keras.saving.serialize_keras_object(self.layer),
            "quantize_config": keras.saving.serialize_keras_object(
                self.quantize_config
            ),
        }


def quantize_annotate_layer(
    to_annotate: keras.layers.Layer, quantize_config: QuantizeConfig | None = None
) -> QuantizeAnnotate:
    """Mark a layer as one to be quantized; `quantize_apply` then does it.

    Args:
        to_annotate: A Keras layer, no model.
        quantize_config: How it is rounded; by default what the scheme says.

    Returns:
        A layer that computes the same.

    Raises:
        ValueError: If it is no layer, or marked already, or `quantize_config` is none.

    Example:
        >>> from penjing import tfmot
        >>> model = keras.Sequential([
        ...     keras.Input((8,)),
        ...     keras.layers.Dense(4, name="plain"),
        ...     quantize_annotate_layer(keras.layers.Dense(2, name="rounded")),
        ... ])
        >>> quantized = tfmot.quantization.keras.quantize_apply(model)
        >>> [layer.name for layer in quantized.layers]
        ['plain', 'quant_rounded']
    """
    is_layer = isinstance(to_annotate, keras.layers.Layer)
    if not is_layer or isinstance(to_annotate, keras.Model):
        raise ValueError(
            "`to_annotate` must be a Keras 3 layer, and quantize_annotate_model takes "
            f"models, got an object of type {_kind(to_annotate)}."
        )
    if isinstance(to_annotate, QuantizeAnnotate):
        raise ValueError(f"The layer {to_annotate.layer.name!r} is annotated already.")
    if quantize_config is not None and not isinstance(quantize_config, QuantizeConfig):
        raise ValueError(
            "`quantize_config` must be a tfmot.quantization.keras.QuantizeConfig, got "
            f"an object of type {_kind(quantize_config)}."
        )
    return QuantizeAnnotate(to_annotate, quantize_config)


def quantize_annotate_model(to_annotate: keras.Model) -> keras.Model:
    """Mark every layer of a model as one to be quantized.

    Args:
        to_annotate: A Sequential or Functional model, whose layers may be marked in
            part. It is left alone.

    Returns:
        A copy with marked layers.

    Raises:
        ValueError: If it is no such model, or carries transforms.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> type(quantize_annotate_model(model).layers[0]).__name__
        'QuantizeAnnotate'
    """
    check_graph(to_annotate, "to_annotate")

    def annotated(layer: Any) -> Any:
        if isinstance(layer, QuantizeAnnotate):
            inner = make_layer_again(layer.layer)
            return QuantizeAnnotate(inner, layer.quantize_config, name=layer.name)
        twin = make_layer_again(layer)
        if isinstance(layer, keras.layers.InputLayer) or not isinstance(
            layer, keras.layers.Layer
        ):
            return twin
        if isinstance(layer, keras.Model):
            raise UnsupportedModelError(
                f"The model {layer.name!r} of class {type(layer).__name__} inside "
                f"{to_annotate.name!r} runs code of its own, so its layers cannot be "
                "annotated. penjing.quantize_aware takes such models."
            )
        return QuantizeAnnotate(twin)

    return rebuild_graph(to_annotate, annotated)


def rebuild_graph(model: keras.Model, make: Callable[[Any], Any]) -> keras.Model:
    """Copy a Sequential or Functional model with other layers of the same weights.

    `make` gives for a layer a new one, with or without a mark. The copy is uncompiled.
    """
    twins: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        twin = make(layer)
        twins.append((unmarked(layer), unmarked(twin)))
        return twin

    rebuilt = clone_graph(model, clone)
    for layer, twin in twins:
        if isinstance(layer, keras.layers.Layer) and layer.built:
            build_as(layer, twin)
            copy_values(layer, twin)
    return rebuilt


def unmarked(layer: Any) -> Any:
    """The layer behind a mark; a layer without one itself."""
    return layer.layer if isinstance(layer, QuantizeAnnotate) else layer


def check_graph(model: Any, name: str) -> None:
    """Refuse what is no plain Sequential or Functional model, but for marks.

    `name` is that of the argument, for the ValueError.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`{name}` must be a Keras 3 model, got an object of type {_kind(model)}."
        )
    parts = find_compressed_layers(model)
    marked = parts and all(isinstance(part, QuantizeAnnotate) for part in parts)
    if is_compressed(model) and not marked:
        raise UnsupportedModelError(
            f"The model {model.name!r} is being pruned, clustered or quantized "
            "already. Strip it first (strip_pruning, strip_clustering, penjing.strip), "
            "or combine methods with penjing.prune, penjing.cluster and "
            "penjing.quantize_aware."
        )
    if not isinstance(model, keras.Sequential) and not is_functional(model):
        raise UnsupportedModelError(
            f"`{name}` must be a Sequential or Functional model, got {model.name!r} of "
            f"class {type(model).__name__}. penjing.quantize_aware takes subclassed "
            "models."
        )


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__name__}"
