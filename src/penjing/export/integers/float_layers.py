"""Layers that stay in float within a file of integers: which operators those are."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from penjing.arguments import did_you_mean, quoted
from penjing.errors import ExportError
from penjing.models.keras_private import all_layers
from penjing.tflite.layer_names import LayerScopes
from penjing.tflite.modes import MODES, Mode, listed
from penjing.tflite.operators import Operator, calls
from penjing.tflite.records import Record
from penjing.tflite.tensors import FLOATS, tensor_name

AUTO = "auto"
_OBSERVED = listed((mode for mode in MODES if mode.has_int8_activations), "and")


def chosen_floats(
    value: Any, model: keras.Model, mode: Mode
) -> tuple[tuple[str, ...], float | None]:
    """Read `float_layers` of `export_litert`: names, or the error that is to be met.

    "auto" is the error that verification allows. What it cannot be is a ValueError.
    """
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return (), None
    if not mode.has_int8_activations:
        raise ValueError(
            f"`float_layers` goes with int8 activations, quantization={_OBSERVED}, not "
            f"with {mode.quantization!r}. Leave it out."
        )
    if value == AUTO:
        return (), mode.tolerance
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 < value <= mode.tolerance:
            raise ValueError(
                "`float_layers` as a number is the error that the outputs may have, in "
                "spreads: above 0, and at most the bound that each file is checked "
                f"against, {mode.tolerance:g}; got {value!r}."
            )
        return (), float(value)
    entries = [value] if isinstance(value, (str, keras.layers.Layer)) else value
    if not isinstance(entries, Iterable):
        raise ValueError(
            '`float_layers` must be "auto", an error such as 0.15, or layers and '
            f"patterns of their names, got {value!r}."
        )
    return tuple(_name(entry, model) for entry in entries), None


def _name(entry: Any, model: keras.Model) -> str:
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, keras.layers.Layer):
        raise ValueError(
            "`float_layers` takes layers, and patterns of their names such as "
            f"'block_1/*', got {entry!r}."
        )
    names = [layer.name for layer in all_layers(model)]
    if all(layer is not entry for layer in all_layers(model)):
        raise ValueError(
            f"`float_layers` has a layer {entry.name!r} that is none of "
            f"`{model.name}`. It has {quoted(names, limit=8)}."
        )
    if names.count(entry.name) > 1:
        raise ValueError(
            f"`{model.name}` has {names.count(entry.name)} layers named "
            f"{entry.name!r}. Give the path of the one that is meant, the names of the "
            f"layers around it and its own, as in 'encoder/{entry.name}'."
        )
    return str(entry.name)


def float_operators(
    model: Record, scopes: LayerScopes, entries: Sequence[str], *, exact: bool = False
) -> list[str]:
    """Names of the first outputs of the operators that are to stay in float.

    An entry is a layer's path, or a pattern that is matched against it, the paths of
    the layers around it, and each of their names. Outside of all layers it is the name
    of an operation. With `exact` it is one of these two as `layer_of` gives them. One
    that matches nothing is an ExportError.
    """
    found: dict[str, None] = {}
    used: set[str] = set()
    known: dict[str, None] = {}
    for number, graph in enumerate(model["subgraphs"]):
        ends = end_names(graph, scopes) if not number else {}
        for call in calls(model, graph):
            if not call.outputs:
                continue
            tensor = graph["tensors"][call.output]
            name = ends.get(call.output, tensor_name(tensor))
            known[layer_of(name, scopes)] = None
            names = [layer_of(name, scopes)] if exact else names_of(name, scopes)
            hits = [e for e in entries if is_named(e, names)]
            used.update(hits)
            if hits:
                found[tensor_name(tensor)] = None
    for entry in entries:
        if entry not in used:
            raise ExportError(
                f"`float_layers` names {entry!r}, of which the file has no operator: "
                "no layer is called so, or it was folded into others."
                f"{did_you_mean(entry, known)} There are {quoted(known, limit=8)}."
            )
    return list(found)


def layer_of(name: str, scopes: LayerScopes) -> str:
    """The path of the layer that a tensor is of; outside of all, its operation."""
    layers = scopes.layers_of(name)
    return layers[0] if layers else scopes.own_name(name)


def end_names(graph: Record, scopes: LayerScopes) -> dict[int, str]:
    """Tensors that are outputs of a file -> the operations that gave them."""
    outputs = map(int, graph["outputs"])
    return dict(zip(outputs, scopes.outputs, strict=False))


def kept_integers(model: Record, denied: Sequence[str]) -> list[str]:
    """Operators that were to stay in float, and compute in integers all the same."""
    wanted = set(denied)
    found = []
    for graph in model["subgraphs"]:
        for call in calls(model, graph):
            if not call.outputs or call.code == Operator.QUANTIZE:
                continue
            tensor = graph["tensors"][call.output]
            rounded = tensor["type"] not in FLOATS and tensor["quantization"]
            if tensor_name(tensor) in wanted and rounded:
                found.append(tensor_name(tensor))
    return found


def names_of(name: str, scopes: LayerScopes) -> list[str]:
    """All that a tensor's operator answers to: see `float_operators`."""
    names = []
    for path in scopes.layers_of(name):
        parts = path.split("/")
        names += ["/".join(parts[: end + 1]) for end in range(len(parts))]
        names += parts
    return names or [scopes.own_name(name)]


def is_named(entry: str, names: Sequence[str]) -> bool:
    """Whether an entry of `float_layers` is one of these names, or matches one."""
    return any(entry == name or fnmatch.fnmatchcase(name, entry) for name in names)
