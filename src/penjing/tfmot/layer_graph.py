"""A model as a flat graph of layer calls, nested models opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer or operation.

    Args:
        layer: The layer or Keras operation that is called; `None` for an input.
        producers: Calls whose outputs it takes.
        consumers: Calls that take its outputs.
    """

    layer: Any
    producers: tuple[LayerCall, ...] = ()
    consumers: list[LayerCall] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class LayerGraph:
    """Where the graph of a model begins and ends.

    Args:
        inputs: One call for each input of the model.
        outputs: Calls that give the model's outputs.
    """

    inputs: tuple[LayerCall, ...]
    outputs: tuple[LayerCall, ...]


def read_layer_graph(model: keras.Model) -> LayerGraph:
    """Read the graph of a built Sequential or Functional model.

    Args:
        model: Built Sequential or Functional model; models within it are opened.

    Returns:
        Its graph. The calls of a shared layer are told apart.
    """
    inputs = tuple(LayerCall(None) for _ in model.inputs)
    return LayerGraph(inputs=inputs, outputs=_read(model, inputs))


def is_functional(model: Any) -> bool:
    """Whether `model` is a Keras model made of a graph of layer calls."""
    return isinstance(model, keras.Model) and hasattr(model, "operations")


def is_plain_graph(model: keras.Model) -> bool:
    """Whether cloning keeps all that a model does: no class of one's own in it."""
    if isinstance(model, keras.Sequential):
        known = type(model) is keras.Sequential
    else:
        known = is_functional(model) and type(model).__module__.startswith("keras.")
    return known and all(
        is_plain_graph(layer)
        for layer in model.layers
        if isinstance(layer, keras.Model)
    )


def _read(layer: Any, producers: Sequence[LayerCall]) -> tuple[LayerCall, ...]:
    """Add the calls within `layer`; return those that give its outputs."""
    if isinstance(layer, keras.Sequential):
        for part in layer.layers:
            producers = _read(part, producers)
        return tuple(producers)
    if is_functional(layer):
        return _read_functional(layer, producers)
    call = LayerCall(layer, tuple(dict.fromkeys(producers)))
    for producer in call.producers:
        producer.consumers.append(call)
    return (call,)


def _read_functional(
    model: Any, producers: Sequence[LayerCall]
) -> tuple[LayerCall, ...]:
    made = dict(zip(map(id, model.inputs), producers, strict=True))
    for node in _nodes_in_order(model):
        sources = [made[id(tensor)] for tensor in node.input_tensors]
        results = _read(node.operation, sources)
        if len(results) != len(node.outputs):
            results = results[:1] * len(node.outputs)
        made.update(zip(map(id, node.outputs), results, strict=True))
    return tuple(made[id(tensor)] for tensor in model.outputs)


def _nodes_in_order(model: Any) -> Iterator[Any]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)
