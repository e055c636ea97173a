"""How the activations of channels vary on data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.channels.groups import ChannelGroup, GroupMember
from penjing.engine.batch_statistics import run_on_data
from penjing.errors import DataError
from penjing.models.copying import copy_model
from penjing.models.keras_private import all_layers, stored_variable
from penjing.models.lending import watched_calls
from penjing.numerics.channel_importance import UnitSlices, variances

# Their kernels sum channels up along one axis of a tensor.
_SUMMING = ("Dense", "Conv1D", "Conv2D", "Conv3D", "EinsumDense")


@dataclasses.dataclass(kw_only=True, eq=False)
class _Watched:
    """A tensor that is summed up: what goes into a layer, or comes out."""

    layer: Any
    side: str
    length: int
    count: int = 0
    totals: Any = 0.0
    squares: Any = 0.0

    def note(self, tensor: Any) -> None:
        first = getattr(self.layer, "data_format", None) == "channels_first"
        axis = 1 if first else -1
        if tensor.shape[axis] != self.length:
            return  # a grouped convolution sums up only a part
        array = ops.convert_to_numpy(ops.cast(tensor, "float32")).astype(np.float64)
        rows = np.moveaxis(array, axis, -1).reshape(-1, self.length)
        self.count += len(rows)
        self.totals = self.totals + rows.sum(axis=0)
        self.squares = self.squares + np.square(rows).sum(axis=0)


def activation_variances(
    model: keras.Model, groups: Sequence[ChannelGroup], inputs: Iterable[Any]
) -> dict[str, np.ndarray | None]:
    """Variance of what each unit hands on to the layers that read it.

    A copy of the model runs on the batches. For each group the mean variance of each
    unit's channels, `(size,)`; None where no convolution or dense layer reads or makes
    them.
    """
    twin = copy_model(model)
    owners = _owners(twin)
    sites = {
        group.name: _sites(group, owners, "input") or _sites(group, owners, "output")
        for group in groups
    }
    watched = {
        (id(layer), side, len(member.units)): _Watched(
            layer=layer, side=side, length=len(member.units)
        )
        for own in sites.values()
        for layer, side, member in own
    }

    def note(layer: Any, given: Any, made: Any) -> None:
        for one in watched.values():
            if one.layer is layer:
                one.note(given if one.side == "input" else made)

    with watched_calls([one.layer for one in watched.values()], note):
        for batch in inputs:
            run_on_data(twin, batch)
    found: dict[str, np.ndarray | None] = {}
    for group in groups:
        parts = []
        for layer, side, member in sites[group.name]:
            seen = watched[id(layer), side, len(member.units)]
            if seen.count:
                parts.append(_by_unit(seen, member, group.size))
        found[group.name] = np.mean(parts, axis=0) if parts else None
        if not np.isfinite(parts).all():
            raise DataError(
                f"The channels of {group.name!r} are NaN or infinite on `data`. Check "
                "the data and the weights of the model."
            )
    return found


def _by_unit(seen: _Watched, member: GroupMember, size: int) -> np.ndarray:
    found = variances(seen.count, seen.totals, seen.squares)
    part = UnitSlices(values=found, axis=0, units=member.units)
    return part.totals(size) / np.maximum(part.counts(size), 1)


def _owners(model: keras.Model) -> dict[str, Any]:
    """Path of a kernel -> the layer that sums channels up with it."""
    return {
        kernel.path: layer
        for layer in all_layers(model)
        if type(layer).__name__ in _SUMMING
        and layer.built
        and (kernel := stored_variable(layer, "kernel")) is not None
        and (len(kernel.shape) == 2 or not type(layer).__name__.startswith("E"))
    }


def _sites(
    group: ChannelGroup, owners: dict[str, Any], role: str
) -> list[tuple[Any, str, GroupMember]]:
    return [
        (owners[member.path], role, member)
        for member in group.members
        if member.role == role and member.path in owners
    ]
