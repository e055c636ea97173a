"""Hidden units and channels in an order in which a compressor finds runs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from penjing.shrinking.unit_groups import UnitGroups, Use, offsets_of, per_unit_fields
from penjing.tflite.records import Record
from penjing.tflite.tensors import set_values, values_of

_PASSES = 2
_WIDEST = 4096  # Columns that the search for alike units looks at.
_MOST_UNITS = 2048
_BYTES_PER_CALL = 2**28  # Compressed in one call of `reorder_units` at most.
# Level 9 is 10 times slower than level 6 on long runs of zeros, and chooses among the
# few best orders, where they concern few bytes.
_QUICK_LEVEL, _LEVEL = 6, 9
_FINALISTS = 3
_BYTES_FOR_FINALS = 2**19

Array = np.ndarray[Any, Any]


def reorder_units(model: Record) -> int:
    """Reorder units wherever the graph lets them change places, in place.

    For each group of units several orders are tried on the constants that it touches:
    by the number of zeros, by size, by bias, and each unit behind the one most like it.
    The one after which these constants compress best is kept. Gives the number of
    groups that got another order.
    """
    groups = UnitGroups(model)
    budget = _BYTES_PER_CALL
    changed: set[int] = set()
    for _ in range(_PASSES):
        before = len(changed)
        for root in groups.movable():
            lot = _Lot(model, groups, root)
            if budget < lot.cost:
                continue
            budget -= lot.cost
            if lot.improve():
                changed.add(root)
        if len(changed) == before:
            break
    return len(changed)


class _Lot:
    """The constants along which one group of units lies."""

    def __init__(self, model: Record, groups: UnitGroups, root: int) -> None:
        self._model = model
        self._size = groups.sizes[root]
        self._uses = [
            (use, offsets)
            for use in groups.uses
            if (offsets := offsets_of(use.blocks, groups, root))
        ]
        self._bytes = sum(values.nbytes for values in self._values())
        self.cost = self._bytes * (2 * len(_ORDERS) + 1)

    def improve(self) -> bool:
        """Take the best order; whether it is another one."""
        orders = [np.arange(self._size), *self._candidates()]
        quick = self._compressed(orders, _QUICK_LEVEL)
        ranking = [int(n) for n in np.argsort(quick, kind="stable")]
        best = ranking[0]
        if self._bytes <= _BYTES_FOR_FINALS:
            finalists = sorted({0, *ranking[:_FINALISTS]})
            exact = self._compressed([orders[n] for n in finalists], _LEVEL)
            best = finalists[int(np.argmin(exact))]
        if best != 0:
            self._apply(orders[best])
        return best != 0

    def _values(self) -> list[Array]:
        return [
            values_of(self._model, use.constant(self._model)) for use, _ in self._uses
        ]

    def _candidates(self) -> Iterator[Array]:
        features = []
        for (use, offsets), values in zip(self._uses, self._values(), strict=True):
            units = np.moveaxis(values, use.axis, 0)
            rows = [units[start : start + self._size] for start in offsets]
            flat = [part.reshape(self._size, -1) for part in rows]
            features.append(np.concatenate(flat, axis=1).astype("f4"))
        for order in _ORDERS:
            found = order(features)
            if found is not None:
                yield found
                yield found[::-1]

    def _compressed(self, orders: Sequence[Array], level: int) -> list[int]:
        """Sizes with each of the orders, found at once on all processors."""

        def size(order: Array) -> int:
            arrays = [array for _, _, array in self._reordered(order)]
            data = b"".join(array.tobytes() for array in arrays)
            return len(zlib.compress(data, level))

        with futures.ThreadPoolExecutor() as pool:
            return list(pool.map(size, orders))

    def _reordered(self, order: Array) -> list[tuple[Use, str, Array]]:
        """The constants, whose name is empty, and what their scales consist of."""
        found = []
        for (use, offsets), values in zip(self._uses, self._values(), strict=True):
            found.append((use, "", _moved(values, use.axis, offsets, order)))
        for use, offsets in self._uses:
            tensor = use.constant(self._model)
            for name in per_unit_fields(tensor, use.axis):
                scales = tensor["quantization"][name]
                found.append((use, name, _moved(scales, 0, offsets, order)))
        return found

    def _apply(self, order: Array) -> None:
        for use, name, array in self._reordered(order):
            tensor = use.constant(self._model)
            if name:
                tensor["quantization"][name] = array
            else:
                set_values(self._model, tensor, array)


def _moved(values: Array, axis: int, offsets: list[int], order: Array) -> Array:
    index = np.arange(values.shape[axis])
    for start in offsets:
        index[start : start + len(order)] = start + order
    return values.take(index, axis)


# Orders: what each constant holds for each unit, (units, values) -> a permutation.


def _by_zeros(features: list[Array]) -> Array:
    return _sorted(sum((f != 0).sum(axis=1) for f in features))


def _by_zeros_of_largest(features: list[Array]) -> Array:
    return _sorted((max(features, key=np.size) != 0).sum(axis=1))


def _by_size(features: list[Array]) -> Array:
    return _sorted(sum(np.abs(f).mean(axis=1) for f in features))


def _by_smallest_constant(features: list[Array]) -> Array:
    """By bias, where there is one: four bytes each, and hard to compress."""
    return _sorted(min(features, key=np.size)[:, 0])


def _by_likeness(features: list[Array]) -> Array | None:
    """Each unit is followed by the one that has zeros in the most of its places."""
    if len(features[0]) > _MOST_UNITS:
        return None
    wide = np.concatenate(features, axis=1)
    wide = (wide[:, :: -(-wide.shape[1] // _WIDEST)] != 0).astype("f4")
    if wide.all():
        return None
    counts = wide.sum(axis=1)
    distance = counts[:, None] + counts - 2 * (wide @ wide.T)
    order = [int(counts.argmin())]
    free = np.ones(len(counts), bool)
    free[order[0]] = False
    for _ in range(len(counts) - 1):
        order.append(int(np.where(free, distance[order[-1]], np.inf).argmin()))
        free[order[-1]] = False
    return np.array(order)


def _sorted(keys: Any) -> Array:
    return np.argsort(keys, kind="stable")


_ORDERS: tuple[Callable[[list[Array]], Array | None], ...] = (
    _by_zeros,
    _by_zeros_of_largest,
    _by_size,
    _by_smallest_constant,
    _by_likeness,
)
