"""Which tensor comes from where in Sequential, Functional and nested models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras

from penjing.models.copying import is_functional
from penjing.models.keras_private import functional_of, graph_nodes
from penjing.models.layer_making import defined_by_keras

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One call of a Keras layer, or of an operation such as the one behind `x + y`.

    Tensors are known by name: `source` is what it gives out. The shape is that of the
    first of its inputs.
    """

    operation: Any
    source: str
    inputs: tuple[str, ...]
    shape: tuple[int | None, ...] = ()


@dataclasses.dataclass(kw_only=True, eq=False)
class Flow:
    """The calls of a graph in the order in which they run, nested graphs opened up.

    Inputs and outputs of the model are flat. They and the tensors of floats are names.
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
    """The calls of a built Sequential or Functional model; None for any other."""
    graph = as_graph(model)
    if graph is None:
        return None
    flow = Flow()
    flow.inputs = tuple(f"input_{i}" for i in range(len(graph.inputs)))
    flow.outputs = tuple(_walk(graph, flow))
    return flow


def as_graph(layer: Any) -> Any:
    """The graph that a layer, model or operation runs; `None` where it runs none."""
    if (
        not isinstance(layer, keras.Model)
        or not layer.built
        or not defined_by_keras(type(layer).call)
    ):
        return None
    if isinstance(layer, keras.Sequential):
        return functional_of(layer)
    return layer if is_functional(layer) else None


def follow_graph(
    graph: Any,
    values: Sequence[Value],
    visit: Callable[[Any, list[Value], str], Sequence[Value]],
    enter: Callable[[Any, Sequence[Value]], None] | None = None,
    prefix: str = "",
) -> list[Value]:
    """Run a graph on values that stand for its tensors, nested graphs opened up.

    Args:
        graph: What `as_graph` gave.
        values: One for each input of the graph, flat; one for each output comes back.
        visit: Takes a node of Keras' graph, the values of its inputs and the path of
            the graph that it stands in, and gives the values of its outputs.
        enter: Takes each nested graph with the values of its inputs, once for every
            call of it.
        prefix: Path of the graph, empty or with a slash behind.
    """
    by_tensor = dict(zip(map(id, graph.inputs), values, strict=True))
    for node in graph_nodes(graph):
        operation = node.operation
        inputs = [by_tensor[id(tensor)] for tensor in node.input_tensors]
        nested = as_graph(operation)
        if nested is None:
            found = visit(node, inputs, prefix)
        else:
            if enter is not None:
                enter(nested, inputs)
            inner = f"{prefix}{operation.name}/"
            found = follow_graph(nested, inputs, visit, enter, inner)
        by_tensor.update(zip(map(id, node.outputs), found, strict=True))
    return [by_tensor[id(tensor)] for tensor in graph.outputs]


def _walk(graph: Any, flow: Flow) -> list[str]:
    """Add the calls of a graph; give the names of its outputs."""

    def keep(tensors: Sequence[Any], names: Sequence[str]) -> None:
        for tensor, name in zip(tensors, names, strict=True):
            if "float" in keras.backend.standardize_dtype(tensor.dtype):
                flow.floating.add(name)

    def visit(node: Any, inputs: list[str], prefix: str) -> list[str]:
        name = _unused(f"{prefix}{node.operation.name}", flow)
        shapes = [tuple(tensor.shape) for tensor in node.input_tensors]
        flow.calls.append(
            Call(
                operation=node.operation,
                source=name,
                inputs=tuple(inputs),
                shape=shapes[0] if shapes else (),
            )
        )
        keep(node.outputs, [name] * len(node.outputs))
        return [name] * len(node.outputs)

    keep(graph.inputs, flow.inputs)
    return follow_graph(graph, flow.inputs, visit)


def _unused(name: str, flow: Flow) -> str:
    """A name for one more call of an operation, which may be shared."""
    taken = {call.source for call in flow.calls}
    number = 1
    while (candidate := name if number == 1 else f"{name}:{number}") in taken:
        number += 1
    return candidate


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
