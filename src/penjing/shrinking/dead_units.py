"""Hidden units and channels that add nothing, taken out of every tensor they lie in.

Heavy pruning leaves most of them so. Their zeros compress well, but the file itself
stores them, and kernels multiply by them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from penjing.shrinking.unit_groups import UnitGroups, Use, per_unit_fields
from penjing.shrinking.unit_values import UnitValues, is_not_zero, real_values
from penjing.tflite.cleaning import drop_unused
from penjing.tflite.graph_edits import add_tensor, set_input
from penjing.tflite.operators import WEIGHTED, Call, Operator, calls
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, is_plain, set_values, values_of

Array = np.ndarray[Any, Any]
Edit = Callable[[Record], str]

# What may be taken out, the most first: see `remove_dead_units`.
LEVELS = ("folded", "unread", "constant", "zero")
# Kernels that round activations while they run do it in steps of the largest one: a
# unit that nobody reads matters to them, unless others are larger.
_SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)

# Operator: place of the shape of its output among its inputs.
_SHAPES: dict[int, int] = {Operator.RESHAPE: 1, Operator.TRANSPOSE_CONV: 0}
_VALID = 1
_LARGEST_BIAS = 2**30


def dead_unit_edits() -> list[Edit]:
    """Edits that take out less and less, and say how many units went."""
    return [
        functools.partial(_remove, level=level, share=share)
        for level in LEVELS
        for share in (_SHARES if level == "constant" else (1.0,))
    ]


def _remove(model: Record, level: str, share: float) -> str:
    return f"{remove_dead_units(model, level, share)} units"


def remove_dead_units(model: Record, level: str = LEVELS[0], share: float = 1.0) -> int:
    """Take out units until none is left that adds nothing, in place.

    Gives the number of units taken out. One of each layer stays in any case.

    Level "zero": units that are always 0. "constant": and those whose value never
    changes, if they get no weight wherever they are summed up; only values up to this
    `share` of the largest one. "unread": and all others that get none. "folded": and
    those whose value never changes, where it can be added to the biases instead.
    """
    count = 0
    originals = _own_vectors(model)
    while found := _Removal(model, level, share).run():
        count += found
    _share_again(model, originals)
    drop_unused(model)
    return count


class _Removal:
    """One pass over all groups of units."""

    def __init__(self, model: Record, level: str, share: float) -> None:
        self._model = model
        self._level = level
        self._share = share
        self._groups = UnitGroups(model)
        self._values = [
            UnitValues(model, number, blocks)
            for number, blocks in enumerate(self._groups.blocks)
        ]
        fixed = {self._groups.root(b) for b in self._fixed()}
        self._roots = [n for n in self._groups.movable() if n not in fixed]

    def run(self) -> int:
        """Take out what is dead; the number of units."""
        dead = {n: np.ones(self._groups.sizes[n], bool) for n in self._roots}
        for use in self._groups.uses:
            if use.ends:
                self._spread(use, self._dead_at(use), dead)
        ends = {
            self._groups.root(b) for u in self._groups.uses if u.ends for b in u.blocks
        }
        kept: dict[int, Array] = {}
        for root in ends.intersection(self._roots):
            keep = ~dead[root]
            keep[0] |= not keep.any()
            if not keep.all():
                kept[root] = keep
        if self._level == "folded":
            for use in self._groups.uses:
                if use.ends:
                    self._fold(use, kept)
        self._cut(kept)
        return sum(int((~keep).sum()) for keep in kept.values())

    # Which units are dead

    def _dead_at(self, use: Use) -> Array:
        """Whether units may go, as far as one operator that sums them up goes."""
        values = self._given(use)
        dead = values == 0
        if self._level != "zero":
            unread = ~self._per_unit(use).any(axis=1)
            if self._level == "constant":
                sizes = np.where(unread & np.isfinite(values), np.abs(values), 0)
                unread &= np.abs(values) <= self._share * sizes.max(initial=0)
            dead |= unread
        bias = self._bias(use) if self._level == "folded" else None
        if bias is not None:
            dead |= np.isfinite(values) & self._can_fold(use, bias, values)
        return np.asarray(dead)

    def _given(self, use: Use) -> Array:
        """The values that an operator gets for each place along its weights."""
        x = use.call.inputs[WEIGHTED[use.call.code].x]
        values = self._values[use.graph].of(x)
        length = int(use.constant(self._model)["shape"][use.axis])
        return np.tile(values, length // max(len(values), 1))

    def _per_unit(self, use: Use) -> Array:
        """Whether weights are not zero, one row for each unit that they are for."""
        is_value = is_not_zero(self._model, use.constant(self._model))
        rows = np.moveaxis(is_value, use.axis, 0)
        return rows.reshape(len(rows), -1)

    def _spread(self, use: Use, dead: Array, found: dict[int, Array]) -> None:
        start = 0
        for block in use.blocks:
            root, size = self._groups.root(block), self._groups.sizes[block]
            if root in found:
                found[root] &= dead[start : start + size]
            start += size

    # Values that go into biases

    def _bias(self, use: Use) -> Record | None:
        """The bias that can take up values, if every output gets them in full."""
        call, shape = use.call, use.constant(self._model)["shape"]
        is_whole = call.code == Operator.FULLY_CONNECTED or (
            call.code == Operator.CONV_2D
            and (call.option("padding") == _VALID or max(shape[1:3]) == 1)
        )
        if not is_whole or call.input(2) < 0:
            return None
        bias: Record = self._tensors(use.graph)[call.input(2)]
        is_ours = is_plain(self._model, bias) and list(bias["shape"]) == [shape[0]]
        is_known = bias["type"] in (TensorType.FLOAT32, TensorType.INT32)
        return bias if is_ours and is_known else None

    def _can_fold(self, use: Use, bias: Record, values: Array) -> bool:
        if bias["type"] == TensorType.FLOAT32:
            return True
        added = self._added(use, bias, np.where(np.isfinite(values), values, 0))
        total = np.abs(values_of(self._model, bias).astype("f8")) + np.abs(added)
        return bool(np.isfinite(total).all() and total.max(initial=0) < _LARGEST_BIAS)

    def _added(self, use: Use, bias: Record, values: Array) -> Array:
        """What values add to each output: real for float biases, else integer steps."""
        tensor = use.constant(self._model)
        weights = real_values(self._model, tensor)
        if bias["type"] == TensorType.INT32:
            x = self._tensors(use.graph)[use.call.inputs[0]]
            values = np.rint(values / float(x["quantization"]["scale"][0]))
            weights = values_of(self._model, tensor).astype("f8")
            if tensor["quantization"] and np.any(tensor["quantization"]["zero_point"]):
                weights[:] = np.nan
        places = weights.reshape(len(weights), -1, weights.shape[-1])
        return np.asarray(places.sum(axis=1) @ values)

    def _fold(self, use: Use, kept: dict[int, Array]) -> None:
        gone = ~self._along(use.blocks, kept)
        bias = self._bias(use)
        values = np.where(gone, self._given(use), 0)
        values[~np.isfinite(values)] = 0  # of units without weights
        if bias is None or not values.any():
            return
        old = values_of(self._model, bias)
        new = old + self._added(use, bias, values)
        set_values(self._model, bias, new.astype(old.dtype))

    # Taking them out

    def _fixed(self) -> list[int]:
        """Groups whose size is written where this module cannot change it."""
        found: list[int] = []
        readers: dict[tuple[int, int], set[Call]] = {}
        for use in self._groups.uses:
            readers.setdefault((use.graph, use.tensor), set()).add(use.call)
        for use in self._groups.uses:
            if len(readers[use.graph, use.tensor]) > 1:
                found += use.blocks
        for number, graph in enumerate(self._model["subgraphs"]):
            for call in calls(self._model, graph):
                if not self._knows_size(number, call):
                    for n in call.outputs:
                        found += self._groups.blocks[number].get(n, ())
        return found

    def _knows_size(self, number: int, call: Call) -> bool:
        if call.code == Operator.SQUEEZE:
            return bool(call.options and len(call.options["squeeze_dims"]))
        place = _SHAPES.get(call.code)
        if place is None or len(call.inputs) <= place:
            return True
        shape = self._tensors(number)[call.inputs[place]]
        return is_plain(self._model, shape) and shape["type"] == TensorType.INT32

    def _along(self, blocks: tuple[int, ...], kept: dict[int, Array]) -> Array:
        """Which places along a row of groups stay."""
        parts = [
            kept.get(self._groups.root(b), np.ones(self._groups.sizes[b], bool))
            for b in blocks
        ]
        return np.concatenate(parts) if parts else np.ones(0, bool)

    def _cut(self, kept: dict[int, Array]) -> None:
        for use in self._groups.uses:
            mask = self._along(use.blocks, kept)
            if not mask.all():
                self._cut_constant(use, mask)
        for number, found in enumerate(self._groups.blocks):
            for t, blocks in found.items():
                size = int(self._along(blocks, kept).sum())
                tensor = self._tensors(number)[t]
                if size < sum(self._groups.sizes[b] for b in blocks):
                    for name in ("shape", "shape_signature"):
                        if name in tensor:
                            tensor[name] = _with_last(tensor[name], size)
                    self._resize_shapes(number, t, size)

    def _cut_constant(self, use: Use, mask: Array) -> None:
        tensor = use.constant(self._model)
        values = values_of(self._model, tensor).compress(mask, use.axis)
        set_values(self._model, tensor, values)
        tensor["shape"] = np.array(values.shape, "<i4")
        tensor.drop("shape_signature")
        for call in calls(self._model, self._model["subgraphs"][use.graph]):
            if call.code == Operator.DEQUANTIZE and use.tensor in call.inputs:
                output = self._tensors(use.graph)[call.output]
                output["shape"] = tensor["shape"]
                output.drop("shape_signature")
        for name in per_unit_fields(tensor, use.axis):
            tensor["quantization"][name] = tensor["quantization"][name][mask]

    def _resize_shapes(self, number: int, output: int, size: int) -> None:
        """Write the new size where an operator reads the shape of its output."""
        for call in calls(self._model, self._model["subgraphs"][number]):
            place = _SHAPES.get(call.code)
            if place is None or output not in call.outputs:
                continue
            options = call.options
            if options and options.kind == "ReshapeOptions":
                options["new_shape"] = _with_last(options["new_shape"], size)
            if len(call.inputs) > place:
                shape = self._tensors(number)[call.inputs[place]]
                values = values_of(self._model, shape)
                set_values(self._model, shape, _with_last(values, size))

    def _tensors(self, number: int) -> list[Record]:
        tensors: list[Record] = self._model["subgraphs"][number]["tensors"]
        return tensors


def _with_last(sizes: Array, size: int) -> Array:
    """A shape with another last size, unless that is free."""
    if not len(sizes) or sizes[-1] == -1:
        return sizes
    return np.array([*sizes[:-1], size], sizes.dtype)


def _own_vectors(model: Record) -> list[tuple[Record, int, int, int]]:
    """Give each reader of a vector, such as a bias, a tensor of its own, in place.

    Gives for each new tensor the operator, the place among its inputs, the old tensor's
    number and the graph's.
    """
    found = []
    for number, graph in enumerate(model["subgraphs"]):
        read: set[int] = set()
        for operator in graph["operators"]:
            for place, t in enumerate(map(int, operator["inputs"])):
                tensor = graph["tensors"][t]
                if t < 0 or len(tensor["shape"]) != 1 or not is_plain(model, tensor):
                    continue
                if t in read:
                    set_input(operator, place, add_tensor(graph, tensor.copy()))
                    found.append((operator, place, t, number))
                tensor = graph["tensors"][operator["inputs"][place]]
                set_values(model, tensor, values_of(model, tensor))
                read.add(t)
    return found


def _share_again(model: Record, found: list[tuple[Record, int, int, int]]) -> None:
    for operator, place, t, number in found:
        tensors = model["subgraphs"][number]["tensors"]
        mine, other = (tensors[n] for n in (operator["inputs"][place], t))
        if np.array_equal(values_of(model, mine), values_of(model, other)):
            set_input(operator, place, t)
