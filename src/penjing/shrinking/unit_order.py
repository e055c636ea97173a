"""Hidden units and channels in an order in which a compressor finds runs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from penjing.shrinking.unit_groups import UnitGroups, Use, offsets_of
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
    The one after which these constants compress best is kept.

    Args:
        model: Any model.

    Returns:
        The number of groups that got another order.
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
        self._size_in_file = sum(
            values_of(model, self._tensor(use)).nbytes for use, _ in self._uses
        )
        self.cost = self._size_in_file * (2 * len(_ORDERS) + 1)

    def improve(self) -> bool:
        """Take the best order; whether it is another one."""
        orders = [np.arange(self._size), *self._candidates()]
        quick = self._compressed(orders, _QUICK_LEVEL)
        ranking = [int(n) for n in np.argsort(quick, kind="stable")]
        best = ranking[0]
        if self._size_in_file <= _BYTES_FOR_FINALS:
            finalists = sorted({0, *ranking[:_FINALISTS]})
            exact = self._compressed([orders[n] for n in finalists], _LEVEL)
            best = finalists[int(np.argmin(exact))]
        if best != 0:
            self._apply(orders[best])
        return best != 0

    def _tensor(self, use: Use) -> Record:
        tensor: Record = self._model["subgraphs"][use.graph]["tensors"][use.tensor]
        return tensor

    def _candidates(self) -> Iterator[Array]:
        features = [
            np.concatenate(
                [
                    np.moveaxis(values_of(self._model, self._tensor(use)), use.axis, 0)[
                        start : start + self._size
                    ].reshape(self._size, -1)
                    for start in offsets
                ],
                axis=1,
            ).astype("f4")
            for use, offsets in self._uses
        ]
        for order in _ORDERS:
            found = order(features)
            if found is not None:
                yield found
                yield found[::-1]

    def _compressed(self, orders: Sequence[Array], level: int) -> list[int]:
        """Sizes with each of the orders, found at once on all processors."""
        with futures.ThreadPoolExecutor() as pool:
            return list(
                pool.map(lambda o: len(zlib.compress(self._bytes(o), level)), orders)
            )

    def _bytes(self, order: Array) -> bytes:
        parts = [
            _reordered(values_of(self._model, self._tensor(use)), use, offsets, order)
            for use, offsets in self._uses
        ]
        for use, offsets in self._uses:
            parts += self._scales(use, offsets, order).values()
        return b"".join(part.tobytes() for part in parts)

    def _scales(self, use: Use, offsets: list[int], order: Array) -> dict[str, Array]:
        """Scales and zero points that go with the units of a constant."""
        tensor = self._tensor(use)
        quantization = tensor["quantization"]
        if not quantization or quantization["quantized_dimension"] != use.axis:
            return {}
        found = {}
        for name in ("scale", "zero_point", "min", "max"):
            values = quantization[name]
            if len(values) > 1:
                found[name] = _reordered(values, Use(0, 0, 0, ()), offsets, order)
        return found

    def _apply(self, order: Array) -> None:
        for use, offsets in self._uses:
            tensor = self._tensor(use)
            values = values_of(self._model, tensor)
            set_values(self._model, tensor, _reordered(values, use, offsets, order))
            for name, array in self._scales(use, offsets, order).items():
                tensor["quantization"][name] = array


def _reordered(values: Array, use: Use, offsets: list[int], order: Array) -> Array:
    index = np.arange(values.shape[use.axis])
    for start in offsets:
        index[start : start + len(order)] = start + order
    return values.take(index, use.axis)


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
