"""Channels that never change: what they give is moved into the biases of their readers.

A unit whose kernels are zero, or whose normalizations scale it by zero, gives the same
value for every input: that of its bias behind activations and whatever else handles
channels by themselves. What is added up from it is then a constant too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.channels.groups import ChannelGroup, kernels_of, unit_slices
from penjing.channels.tracing import ChannelGraph
from penjing.models.copying import copy_model, copy_values
from penjing.models.graph_flow import as_graph
from penjing.models.keras_private import all_layers, stored_variable
from penjing.models.lending import watched_calls

_READERS = ("Dense", "Conv1D", "Conv2D", "Conv3D")
_SAMPLES = 8
_FREE_SIZES = 8, 11  # two, as behind a recurrent layer values depend on the length
_TOLERANCE = 1e-5  # averages of equal values differ by rounding


def fold_constant_channels(
    model: keras.Model, graph: ChannelGraph, kept: Mapping[str, np.ndarray]
) -> keras.Model:
    """Add what removed constant units give to the biases of the layers that read them.

    Dense layers and convolutions with a bias take it, convolutions where no padding
    mixes zeros in. Elsewhere nothing is changed: the units fall as if they were silent.
    `kept` maps group names to `(size,)`, True where a unit stays.

    Gives a new model of the same architecture, whose removed constant units can be
    silenced without changing its outputs; the given one where there are none.
    """
    values = {v.path: ops.convert_to_numpy(v.value) for v in model.weights}
    used = {path: value != 0 for path, value in values.items()}
    constant = {
        group.name: found & ~kept[group.name]
        for group in graph.groups
        if group.name in kept and (found := _constant_units(group, used)) is not None
    }
    if next(_sites(model, graph, constant), None) is None:
        return model
    twin = copy_model(model)
    sites = list(_sites(twin, graph, constant))
    read_by = [layer for layer, _, _ in sites]
    runs = [_observed(twin, read_by, size) for size in _FREE_SIZES]
    changes: dict[str, Any] = {}
    for layer, axis, positions in sites:
        calls = [run.get(id(layer), []) for run in runs]
        added = _constant_sum(layer, axis, positions, calls)
        if added is not None and added.any():
            path = layer.bias.path
            changes[path] = changes.get(path, values[path].astype(np.float64)) + added
    if not changes:
        return model
    copy_values(model, twin)  # its states have changed
    for variable in twin.weights:
        if variable.path in changes:
            variable.assign(changes[variable.path])
    return twin


def _constant_units(group: ChannelGroup, used: Mapping[str, Any]) -> Any:
    """Units that nothing makes: zero kernels, or zero scales; None where none is.

    Scales count where every layer that makes the units can have some behind it.
    """
    found = np.zeros(group.size, bool)
    for role in ("output", "scale"):
        members = kernels_of(group, (role,))
        if not members or (role == "scale" and len(members) < len(group.layers)):
            continue
        alive = [part.totals(group.size) for part in unit_slices(members, used)]
        found |= np.sum(alive, axis=0) == 0
    return found if found.any() else None


def _sites(
    model: keras.Model, graph: ChannelGraph, constant: Mapping[str, Any]
) -> Iterator[tuple[Any, int, np.ndarray]]:
    """Layers that read removed constant units: layer, kernel axis, which positions."""
    readers = {
        kernel.path: layer
        for layer in all_layers(model)
        if type(layer).__name__ in _READERS
        and layer.built
        and layer.use_bias
        and (kernel := stored_variable(layer, "kernel")) is not None
    }
    for group in graph.groups:
        for member in group.members:
            layer = readers.get(member.path)
            if group.name not in constant or member.role != "input" or layer is None:
                continue
            inside = np.append(constant[group.name], False)[member.units]
            if inside.any():
                yield layer, member.axis, inside


def _constant_sum(
    layer: Any, axis: int, positions: np.ndarray, calls: list[list[np.ndarray]]
) -> np.ndarray | None:
    """What constant inputs add to each output, or None where that is no constant."""
    if any(len(run) != 1 for run in calls):
        return None  # a shared layer reads other values in each call
    tensors = [run[0] for run in calls]
    if getattr(layer, "data_format", None) == "channels_first":
        tensors = [np.moveaxis(tensor, 1, -1) for tensor in tensors]
    if tensors[0].shape[-1] != len(positions):
        return None  # a grouped convolution
    rows = np.concatenate([tensor.reshape(-1, len(positions)) for tensor in tensors])
    rows = rows[:, positions].astype(np.float64)
    value = rows[0]
    stays = np.abs(rows - value).max(axis=0) <= _TOLERANCE * np.maximum(
        1.0, np.abs(value)
    )
    value = np.where(stays, value, 0.0)
    kernel = np.moveaxis(ops.convert_to_numpy(layer.kernel.value), axis, 0)[positions]
    kernel = kernel.astype(np.float64)
    padded = getattr(layer, "padding", "valid") != "valid"
    if padded and max(layer.kernel_size) > 1 and value.any():
        return None
    spatial = tuple(range(1, kernel.ndim - 1))
    return np.asarray(value @ kernel.sum(axis=spatial))


def _observed(
    model: keras.Model, layers: list[Any], free_size: int
) -> dict[int, list[np.ndarray]]:
    """What layers read when the model runs on random inputs; empty where it cannot."""
    seen: dict[int, list[np.ndarray]] = {}

    def note(layer: Any, given: Any, made: Any) -> None:
        array = ops.convert_to_numpy(ops.cast(given, "float32"))
        seen.setdefault(id(layer), []).append(array)

    with watched_calls(layers, note):
        try:
            model(_random_inputs(model, free_size), training=False)
        except Exception:  # it may not take random numbers
            return {}
    return seen


def _random_inputs(model: keras.Model, free_size: int) -> Any:
    rng = np.random.default_rng(0)

    def make(tensor: Any) -> Any:
        count, *rest = tensor.shape
        shape = [count or _SAMPLES, *(size or free_size for size in rest)]
        numbers = rng.normal(size=shape)
        if "float" not in keras.backend.standardize_dtype(tensor.dtype):
            numbers = np.where(numbers > 0, 1.0, 0.0)
        return ops.cast(ops.convert_to_tensor(numbers), tensor.dtype)

    return keras.tree.map_structure(make, as_graph(model).input)
