"""The way back from a compressed model to a plain one."""

from __future__ import annotations

from typing import Any

import keras

from penjing.arguments import quoted
from penjing.engine.compressed_layer import CompressedLayer
from penjing.engine.compression_model import CompressionModel
from penjing.engine.engine import TransformEngine
from penjing.errors import UnsupportedModelError
from penjing.models.copying import clone_graph, copy_values, is_functional
from penjing.models.keras_private import all_layers
from penjing.models.layer_making import build_as, make_layer_again


def is_compressed(model: Any) -> bool:
    """Whether a model or layer carries transforms that `strip` would take off."""
    return isinstance(model, TransformEngine) or bool(find_compressed_layers(model))


def find_compressed_layers(model: Any) -> list[Any]:
    """Every `CompressedLayer` inside a model, in its order.

    Every `CompressionModel` in its graph too; in code of the user's own it runs by
    itself, as any other model.
    """
    if not isinstance(model, keras.layers.Layer):
        return []
    in_graph = _in_graph(model)
    return [
        layer
        for layer in all_layers(model)
        if isinstance(layer, CompressedLayer)
        or (isinstance(layer, CompressionModel) and id(layer) in in_graph)
    ]


def strip(model: keras.Model, *, copy: bool = True) -> keras.Model:
    """Take the transforms off and write their results into plain weights.

    It is exact at any time, after any batch.

    Args:
        model: What `penjing.prune` gave, or a Sequential or Functional model with
            compressed layers inside.
        copy: Give a new model and leave the given one in training. `False` saves the
            memory of the copy: the inner model itself is given back, and the given
            one should not be used any more.

    Returns:
        A plain, uncompiled Keras model that knows nothing of penjing.

    Raises:
        UnsupportedModelError: If there is nothing to strip, or compressed layers stand
            in a subclassed model.
        CompressionError: If a compressed weight is NaN or infinite.

    Example:
        >>> import keras, penjing
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> model = penjing.prune(model, penjing.OneShot(0.5))
        >>> _ = model(keras.ops.ones((1, 8)), training=True)
        >>> penjing.sparsity_report(penjing.strip(model)).rows[0].zeros
        16
    """
    if isinstance(model, CompressionModel):
        return model.strip(copy=copy, stacklevel=3)
    if not isinstance(model, keras.Model) or not find_compressed_layers(model):
        raise UnsupportedModelError(
            f"There is nothing to strip from {getattr(model, 'name', model)!r}: it was "
            "not compressed, or was stripped before."
        )
    return _without_wrappers(model, copy=copy)


def strip_layer(layer: CompressedLayer, *, copy: bool = True) -> keras.layers.Layer:
    """The plain layer inside a compressed one, with its weights transformed.

    Args:
        layer: A compressed layer.
        copy: Give a new layer and leave the given one in training.

    Returns:
        A plain Keras layer; unbuilt where the given one is.

    Raises:
        UnsupportedModelError: If `layer` is no compressed layer.
        CompressionError: If a compressed weight is NaN or infinite.
    """
    if not isinstance(layer, CompressedLayer):
        raise UnsupportedModelError(
            "`layer` must be a compressed layer, as penjing.prune_layer gives it, got "
            f"an object of type {type(layer).__name__}. penjing.strip takes a model."
        )
    return layer.strip(copy=copy, stacklevel=3)


def _in_graph(model: Any) -> set[int]:
    """Identities of the layers in the graph of a model, and in those within it."""
    graphs: list[Any] = [model]
    reached: set[int] = set()
    while graphs:
        graph = graphs.pop()
        if isinstance(graph, keras.Sequential) or is_functional(graph):
            reached.update(map(id, graph.layers))
            graphs.extend(graph.layers)
    return reached


def _check_graph_has_all(model: keras.Model) -> None:
    """Refuse layers of the user's own that hold compressed layers."""
    reached = _in_graph(model)
    hidden = [c.name for c in find_compressed_layers(model) if id(c) not in reached]
    if hidden:
        raise UnsupportedModelError(
            f"{model.name!r} has layers of your own that hold the compressed layers "
            f"{quoted(hidden)}, which cannot be taken out from outside. Make the model "
            "without them and give its layers the weights: "
            "`plain.set_weights(penjing.strip_layer(compressed).get_weights())`. Or "
            "compress the whole model with penjing.prune."
        )


def _without_wrappers(model: keras.Model, *, copy: bool) -> keras.Model:
    if not isinstance(model, keras.Sequential) and not is_functional(model):
        raise UnsupportedModelError(
            f"The subclassed model {model.name!r} of class {type(model).__name__} "
            "holds compressed layers, which cannot be taken out from outside. Make the "
            "model without them and give its layers the weights: "
            "`plain.set_weights(penjing.strip_layer(compressed).get_weights())`. Or "
            "compress the whole model with penjing.prune."
        )

    _check_graph_has_all(model)

    def plain(layer: Any) -> Any:
        if isinstance(layer, CompressionModel):
            return layer.strip(copy=copy)
        if not isinstance(layer, CompressedLayer):
            twin = make_layer_again(layer) if copy else layer
        elif copy:
            twin = make_layer_again(layer.layer)
        else:
            twin = strip_layer(layer, copy=False)
        twins.append((layer, twin))
        return twin

    twins: list[tuple[Any, Any]] = []
    stripped = clone_graph(model, plain)
    for layer, twin in twins if copy else ():
        if isinstance(layer, CompressedLayer):
            build_as(layer.layer, twin)
            copy_values(layer.layer, twin)
            layer.write_values(twin)
        elif isinstance(layer, keras.layers.Layer):
            build_as(layer, twin)
            copy_values(layer, twin)
    return stripped
