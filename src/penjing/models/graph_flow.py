"""Which tensor comes from where in Sequential, Functional and nested models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from penjing.models.copying import defined_by_keras, is_functional


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One call of an operation in a graph.

    Args:
        operation: A Keras layer, or an operation such as the one behind `x + y`.
        source: Name of what it gives out.
        inputs: Names of the tensors it takes.
    """

    operation: Any
    source: str
    inputs: tuple[str, ...]


@dataclasses.dataclass(kw_only=True, eq=False)
class Flow:
    """The calls of a graph in the order in which they run, nested graphs opened up.

    Attributes:
        calls: The calls.
        inputs: Names of the model's inputs, flat.
        outputs: Names of what the model gives out, flat.
        floating: Names of the tensors of floats.
    """

    calls: list[Call] = dataclasses.field(default_factory=list)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    floating: set[str] = dataclasses.field(default_factory=set)

    def consumers(self) -> dict[str, list[Call]]:
        """Name of a tensor -> the calls that take it."""
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            for name in dict.fromkeys(call.inputs):
                found.setdefault(name, []).append(call)
        return found


def trace_flow(model: keras.Model) -> Flow | None:
    """Find the calls of a built Sequential or Functional model.

    Args:
        model: Any Keras model.

    Returns:
        Its flow; `None` where the model is no graph, but runs code of its own.
    """
    graph = as_graph(model)
    if graph is None:
        return None
    flow = Flow()
    flow.inputs = tuple(f"input_{i}" for i in range(len(graph.inputs)))
    flow.outputs = tuple(_walk(graph, flow.inputs, "", flow))
    return flow


def as_graph(layer: Any) -> Any:
    """The graph that a layer runs, or `None` where it is no Sequential or Functional.

    Args:
        layer: A Keras layer, model or operation.
    """
    if (
        not isinstance(layer, keras.Model)
        or not layer.built
        or not defined_by_keras(type(layer).call)
    ):
        return None
    if isinstance(layer, keras.Sequential):
        return layer._functional
    return layer if is_functional(layer) else None


def _walk(graph: Any, names: Sequence[str], prefix: str, flow: Flow) -> list[str]:
    """Add the calls of a graph; give the names of its outputs."""
    by_tensor: dict[int, str] = {}

    def keep(tensors: Sequence[Any], names: Sequence[str]) -> None:
        for tensor, name in zip(tensors, names, strict=True):
            by_tensor[id(tensor)] = name
            if "float" in keras.backend.standardize_dtype(tensor.dtype):
                flow.floating.add(name)

    keep(graph.inputs, names)
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            operation = node.operation
            if not operation or node.is_input:
                continue
            inputs = tuple(by_tensor[id(tensor)] for tensor in node.input_tensors)
            nested = as_graph(operation)
            if nested is not None:
                inner = f"{prefix}{operation.name}/"
                keep(node.outputs, _walk(nested, inputs, inner, flow))
                continue
            name = _unused(f"{prefix}{operation.name}", flow)
            flow.calls.append(Call(operation=operation, source=name, inputs=inputs))
            keep(node.outputs, [name] * len(node.outputs))
    return [by_tensor[id(tensor)] for tensor in graph.outputs]


def _unused(name: str, flow: Flow) -> str:
    """A name for one more call of an operation, which may be shared."""
    taken = {call.source for call in flow.calls}
    number = 1
    while (candidate := name if number == 1 else f"{name}:{number}") in taken:
        number += 1
    return candidate
