"""What became of each layer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from penjing.data.batches import input_batches, leaves
from penjing.measurement.macs import MacsReport, count_macs
from penjing.measurement.weight_report import WeightRow
from penjing.models.graph_flow import as_graph
from penjing.models.keras_private import all_layers, graph_nodes
from penjing.report.evidence.reasons import reason_of
from penjing.report.evidence.stored_weights import (
    Array,
    StoredWeight,
    match_weights,
    shape_key,
)
from penjing.report.evidence_rows import LayerRow

MAX_LAYERS = 200
_SAMPLES = 32


def values_of_weights(model: keras.Model) -> dict[str, Array]:
    """Floats of all weights by their paths; seeds and counters are no weights."""
    found = {}
    for variable in model.weights:
        if "float" in str(variable.dtype):
            value = keras.ops.cast(variable.value, "float32")
            found[variable.path] = keras.ops.convert_to_numpy(value)
    return found


def match_paths(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    """Path after -> path before, where a model was copied or loaded in between.

    Keras may put the model's name in front, or leave it out: the last two parts decide
    where they are those of one weight only.
    """
    exact = set(before)
    tails: dict[str, list[str]] = {}
    for path in before:
        tails.setdefault(_tail(path), []).append(path)
    found = {}
    for path in after:
        same = [path] if path in exact else tails.get(_tail(path), [])
        if len(same) == 1:
            found[path] = same[0]
    return found


def _tail(path: str) -> str:
    return "/".join(path.split("/")[-2:])


@dataclasses.dataclass(eq=False)
class _Layer:
    """What is put together of one layer, by the paths of its weights."""

    name: str
    kind: str = ""
    before: dict[str, Array] = dataclasses.field(default_factory=dict)
    after: dict[str, Array] = dataclasses.field(default_factory=dict)


def describe_layers(
    baseline: keras.Model,
    compressed: keras.Model,
    weights: Iterable[WeightRow],
    *,
    stored: list[StoredWeight],
    test: Any,
    left_out: dict[str, str],
) -> tuple[LayerRow, ...]:
    """Give a row for each layer of the baseline, and for those that are new.

    What is not known of MACs and errors is noted in `left_out`.
    """
    before, after = values_of_weights(baseline), values_of_weights(compressed)
    names = match_paths(list(before), list(after))
    layers = _by_layer(before, after, names)
    _name_kinds(layers, baseline, compressed)
    matrices = {path: a for path, a in after.items() if len(shape_key(a.shape)) > 1}
    found = match_weights(matrices, stored)
    reasons = _reasons(weights)
    macs = [_macs(model, left_out) for model in (baseline, compressed)]
    errors = _errors(baseline, compressed, test, left_out)
    rows = [
        _row(layer, names, found, reasons, macs, errors) for layer in layers.values()
    ]
    rows += _without_weights(macs[0], layers)
    if len(rows) > MAX_LAYERS:
        left_out["other layers"] = f"{len(rows)} layers, of which {MAX_LAYERS} are here"
    return tuple(rows[:MAX_LAYERS])


def _by_layer(
    before: dict[str, Array], after: dict[str, Array], names: dict[str, str]
) -> dict[str, _Layer]:
    layers: dict[str, _Layer] = {}
    for path, array in before.items():
        name = path.rpartition("/")[0]
        layers.setdefault(name, _Layer(name)).before[path] = array
    for path, array in after.items():
        name = names.get(path, path).rpartition("/")[0]
        layers.setdefault(name, _Layer(name)).after[path] = array
    return layers


def _name_kinds(layers: dict[str, _Layer], *models: keras.Model) -> None:
    for model in models:
        for layer in all_layers(model):
            name = str(getattr(layer, "path", layer.name))
            for key in (name, name.partition("/")[2], f"{model.name}/{name}"):
                if key in layers and not layers[key].kind:
                    layers[key].kind = type(layer).__name__
    for name, found in layers.items():
        found.kind = found.kind or name.rpartition("/")[2]


def _reasons(weights: Iterable[WeightRow]) -> dict[str, tuple[str, int]]:
    """Why the largest weight of a layer was skipped, by the tail of the layer's path.

    Vectors are always skipped, and no reason to say so.
    """
    found: dict[str, tuple[str, int]] = {}
    for row in weights:
        layer = row.path.rpartition("/")[0]
        if len(row.shape) > 1 and row.size > found.get(layer, ("", -1))[1]:
            found[layer] = (row.reason if row.status == "skipped" else "", row.size)
    return found


def _macs(model: keras.Model, left_out: dict[str, str]) -> MacsReport | None:
    try:
        return count_macs(model)
    except Exception as error:  # models of the user's own
        left_out["MACs"] = reason_of(error)
        return None


def _row(
    layer: _Layer,
    names: dict[str, str],
    found: dict[str, StoredWeight],
    reasons: dict[str, tuple[str, int]],
    macs: Sequence[MacsReport | None],
    errors: dict[str, float],
) -> LayerRow:
    own = [found[path] for path in layer.after if path in found]
    largest = max(own, key=lambda weight: weight.bytes, default=None)
    flash = [weight.flash for weight in own if weight.flash is not None]
    seconds = [weight.seconds for weight in own if weight.seconds is not None]
    sizes = [sum(a.size for a in part.values()) for part in (layer.before, layer.after)]
    zeros = sum(int(np.count_nonzero(a == 0)) for a in layer.after.values())
    # What is not in the file, as a batch normalization that was folded, takes no bytes.
    matrices = [a for a in layer.before.values() if len(shape_key(a.shape)) > 1]
    return LayerRow(
        name=layer.name,
        kind=layer.kind,
        parameters=sizes[0],
        parameters_after=sizes[1],
        channels=channels_of(layer.before, layer.kind),
        channels_after=channels_of(layer.after, layer.kind),
        zeros=zeros if layer.after else None,
        levels=None if largest is None else largest.levels,
        bits=None if largest is None else largest.bits,
        bytes=sum(weight.bytes for weight in own) if own else None,
        bytes_before=4 * sum(a.size for a in matrices) if matrices else None,
        flash=sum(flash) if flash else None,
        macs=_macs_of(macs[0], layer.before),
        macs_after=_macs_of(macs[1], layer.after),
        seconds=sum(seconds) if seconds else None,
        error=errors.get(layer.name.rpartition("/")[2]),
        reason=_reason(layer, reasons),
    )


def _reason(layer: _Layer, reasons: dict[str, tuple[str, int]]) -> str:
    if layer.name in reasons:
        return reasons[layer.name][0]
    tail = layer.name.rpartition("/")[2]
    found = [
        why for name, (why, _) in reasons.items() if name.rpartition("/")[2] == tail
    ]
    return found[0] if len(found) == 1 else ""


def channels_of(weights: dict[str, Array], kind: str) -> int | None:
    """Channels that a layer of a class makes, where its weights say so."""
    kernels = {path: a.shape for path, a in weights.items() if a.ndim > 1}
    if not kernels:
        return None
    for path, shape in kernels.items():
        if path.endswith("recurrent_kernel"):
            return int(shape[-2])
        if path.endswith("pointwise_kernel"):
            return int(shape[-1])
    shape = max(kernels.values(), key=math.prod)
    if kind.startswith("Depthwise"):
        return int(shape[-2] * shape[-1])
    return int(shape[-2] if kind.endswith("Transpose") else shape[-1])


def _macs_of(report: MacsReport | None, weights: dict[str, Array]) -> int | None:
    if report is None:
        return None
    counted = report.kernels
    own = [counted[path] for path in weights if path in counted]
    return sum(own) if own else None


def _without_weights(
    report: MacsReport | None, layers: dict[str, _Layer]
) -> list[LayerRow]:
    tails = {name.rpartition("/")[2] for name in layers}
    return [
        LayerRow(name=row.path, kind=row.type, parameters=0, macs=row.macs or None)
        for row in (report.rows if report else ())
        if not row.parameters and row.path.rpartition("/")[2] not in tails
    ]


def _errors(
    baseline: keras.Model, compressed: keras.Model, test: Any, left_out: dict[str, str]
) -> dict[str, float]:
    """How far the outputs of each layer lie from the baseline's, by its name."""
    try:
        x = next(iter(input_batches(_inputs(test), _SAMPLES, "test", baseline)))
        x = keras.tree.map_structure(lambda array: array[:_SAMPLES], x)
        first, last = _outputs(baseline, x), _outputs(compressed, x)
    except Exception as error:  # of layers of the user's own, too
        left_out["errors of layers"] = reason_of(error)
        return {}
    if not first:
        reason = "the model is no graph of layers, so their outputs are not to be had"
        left_out["errors of layers"] = reason
    return {
        name: away
        for name, array in first.items()
        if name in last and (away := _distance(array, last[name])) is not None
    }


def _inputs(test: Any) -> Any:
    return test[0] if isinstance(test, tuple) else test


def _outputs(model: keras.Model, x: Any) -> dict[str, Array]:
    """Outputs of the layers of a graph that are called once, by the layers' names."""
    graph = as_graph(model)
    if graph is None:
        return {}
    calls: dict[str, list[Any]] = {}
    for node in graph_nodes(graph):
        calls.setdefault(node.operation.name, []).extend(node.output_tensors)
    tensors = {name: found[0] for name, found in calls.items() if len(found) == 1}
    inputs, values = graph.inputs, x
    if len(inputs) == 1:
        inputs, values = inputs[0], leaves(x)[0]
    elif isinstance(x, Mapping):
        values = [x[tensor.name] for tensor in inputs]
    found = keras.Model(inputs, tensors)(values, training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}


def _distance(before: Array, after: Array) -> float | None:
    if before.shape != after.shape or before.dtype.kind != "f":
        return None
    size = float(np.sqrt(np.mean(np.square(before, dtype="f8"))))
    away = float(np.sqrt(np.mean(np.square(after.astype("f8") - before))))
    return away / size if size and np.isfinite(away / size) else None
