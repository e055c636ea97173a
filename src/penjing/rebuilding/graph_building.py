"""The Functional model of a file, one operator after the other."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras

from penjing.errors import CompressionError, UnsupportedModelError
from penjing.models.keras_private import operation_behind, tensors_before
from penjing.rebuilding.layer_naming import LayerNames
from penjing.rebuilding.rules.operator_rules import RULES
from penjing.rebuilding.source_graph import SourceGraph
from penjing.rebuilding.step import Apply, Step
from penjing.tflite.operators import Call, Operator


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RebuiltOperator:
    """An operator of a file and what computes the same.

    Attributes:
        inputs: The tensors that `apply` takes: those that are no constants.
        layers: Those of its layers that have weights.
        name: Of its layer; how those of others begin.
    """

    call: Call
    inputs: tuple[int, ...]
    apply: Apply
    layers: list[Any]
    name: str

    @property
    def label(self) -> str:
        """Name of the operator."""
        return Operator(self.call.code).name

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """What it gives for its inputs: one tensor for each of its outputs."""
        given = self.apply(*tensors)
        return list(given) if isinstance(given, list | tuple) else [given]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RebuiltModel:
    """A model and the operators that it is made of.

    Attributes:
        tensors: Number of a tensor in the file -> the symbolic one of the model.
    """

    model: keras.Model
    operators: list[RebuiltOperator]
    tensors: dict[int, Any]


def build_model(
    graph: SourceGraph, name: str, where: str, *, fixed_batch: bool = False
) -> RebuiltModel:
    """Make the model of a graph whose operators all have rules.

    What a rule does not cover is an UnsupportedModelError; messages call the file
    `where`. Without `fixed_batch` the batch is free.
    """
    names = LayerNames(graph)
    tensors = {
        number: _input(graph, names, number, fixed_batch) for number in graph.inputs
    }
    inputs = list(tensors.values())
    seen = set(map(id, inputs))
    operators = []
    for call in graph.calls:
        operator = _rebuilt(graph, call, names, where, fixed_batch)
        operators.append(operator)
        run = functools.partial(operator.run, [tensors[n] for n in operator.inputs])
        given = asked(run, graph, call, where)
        _name_operations(given, seen, operator.name, names)
        tensors.update(zip(call.outputs, given, strict=False))
    outputs = [_output(graph, tensors, number, where) for number in graph.outputs]
    single = outputs[0] if len(outputs) == 1 else outputs
    return RebuiltModel(
        model=keras.Model(inputs[0] if len(inputs) == 1 else inputs, single, name=name),
        operators=operators,
        tensors=tensors,
    )


def _input(
    graph: SourceGraph, names: LayerNames, number: int, fixed_batch: bool
) -> Any:
    shape = graph.shape(number)
    if not shape:
        raise UnsupportedModelError(
            f"The input {graph.name(number)!r} is a single number without a batch."
        )
    text = graph.name(number).removeprefix("serving_default_").split(":")[0]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-") or "input"
    kind = graph.kind(number).dtype
    if graph.grid(number) is not None or kind.startswith("float"):
        kind = "float32"
    return keras.Input(
        shape[1:],
        batch_size=shape[0] if fixed_batch else None,
        dtype=kind,
        name=names.free(name if name[0].isalpha() else f"input_{name}"),
    )


def _output(
    graph: SourceGraph, tensors: dict[int, Any], number: int, where: str
) -> Any:
    if number not in tensors:
        raise UnsupportedModelError(
            f"The output {graph.name(number)!r} of {where} depends on no input."
        )
    return tensors[number]


def _rebuilt(
    graph: SourceGraph, call: Call, names: LayerNames, where: str, fixed_batch: bool
) -> RebuiltOperator:
    given = tuple(n for n in call.inputs if n >= 0 and not graph.is_constant(n))
    if not given:
        raise UnsupportedModelError(
            f"{Operator(call.code).name} {graph.name(call.output)!r} of {where} reads "
            "nothing that is computed, and what it gives is not the same in each run, "
            "or too large to be kept."
        )
    step = Step(graph=graph, call=call, name=names.name(call), fixed_batch=fixed_batch)
    apply = asked(lambda: RULES[step.operator](step), graph, call, where)
    return RebuiltOperator(
        call=call, inputs=given, apply=apply, layers=step.layers, name=step.name
    )


def _name_operations(
    given: Sequence[Any], seen: set[int], name: str, names: LayerNames
) -> None:
    """Name what Keras numbers by itself, which may be called as a layer of the file.

    `seen` are the ids of tensors whose operations have names; it grows.
    """
    waiting = list(given)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation = operation_behind(tensor)
        if operation.name != name:
            operation.name = names.free(f"{name}_{type(operation).__name__.lower()}")
        waiting.extend(tensors_before(tensor))


def asked(make: Callable[[], Any], graph: SourceGraph, call: Call, where: str) -> Any:
    """Let a rule or layer speak, and say of which operator its refusal is.

    Layers speak in the errors of all backends, so any is an UnsupportedModelError.
    """
    try:
        return make()
    except (CompressionError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UnsupportedModelError(
            f"{Operator(call.code).name} {graph.name(call.output)!r} of {where} cannot "
            f"become a Keras layer: {reason}."
        ) from error
