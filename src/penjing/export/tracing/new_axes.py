"""Slices that add axes, as `x[:, None]` does, in two steps that LiteRT can take.

The converter turns such a slice into a reshape, which needs all sizes of the result but
one; where more are free, as in a mask of (batch, length, length), it gives up. A slice
without new axes, and then ExpandDims, need no sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.export.tracing.graph_nodes import add_constant, become, number_of

Numbers = np.ndarray[Any, Any]
_MASKS = ("begin_mask", "end_mask", "shrink_axis_mask", "ellipsis_mask")
_NEW = "new_axis_mask"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DividedSlice:
    """A slice that adds no axes, and the axes that are added to what it gives.

    Args:
        numbers: `(3, places)`: begin, end and stride of each place.
        masks: The masks of `tf.raw_ops.StridedSlice` for these places.
        axes: Where axes are added, one after the other.
    """

    numbers: Numbers
    masks: dict[str, int]
    axes: list[int]

    @property
    def takes_all(self) -> bool:
        """Whether the slice gives its input as it is."""
        bits = self.masks
        whole = bits["begin_mask"] & bits["end_mask"]
        return not bits["shrink_axis_mask"] and all(
            bits["ellipsis_mask"] >> i & 1 or (whole >> i & 1 and stride == 1)
            for i, stride in enumerate(self.numbers[2])
        )


def divide_slice(numbers: Numbers, masks: dict[str, int]) -> DividedSlice | None:
    """Divide a slice into one without new axes, and the axes; None if it adds none.

    Args:
        numbers: `(3, places)`: begin, end and stride of each place.
        masks: The five masks of `tf.raw_ops.StridedSlice`.

    Example:
        >>> numbers = np.array([[0, 0], [0, 0], [1, 1]])  # x[:, None]
        >>> bits = {"begin_mask": 1, "end_mask": 1, "new_axis_mask": 2}
        >>> bits |= {"shrink_axis_mask": 0, "ellipsis_mask": 0}
        >>> divided = divide_slice(numbers, bits)
        >>> divided.axes, divided.takes_all
        ([1], True)
    """
    dots = masks["ellipsis_mask"]
    # An ellipsis wins over a new axis in the same place, and that over a number.
    new = [masks[_NEW] & ~dots & 1 << i != 0 for i in range(numbers.shape[1])]
    if not any(new):
        return None
    kept = [i for i, is_new in enumerate(new) if not is_new]
    left = {
        name: sum((masks[name] >> place & 1) << i for i, place in enumerate(kept))
        for name in _MASKS
    }
    axes = _places_of_axes(new, masks["shrink_axis_mask"] & ~dots, dots)
    return DividedSlice(numbers=numbers[:, kept], masks=left, axes=axes)


def _places_of_axes(new: list[bool], shrunk: int, dots: int) -> list[int]:
    """Where to add the axes: those behind an ellipsis count from the end.

    From the outside in, so that each is where it is in the end.
    """
    places = [i for i, is_new in enumerate(new) if is_new or not shrunk >> i & 1]
    before = next((n for n, i in enumerate(places) if dots >> i & 1), len(places))
    added = [n for n, i in enumerate(places) if new[i]]
    back = [n - len(places) for n in added if n > before]
    return [n for n in added if n < before] + back[::-1]


def add_axes_apart(nodes: Any, node: Any, numbers: Sequence[Numbers | None]) -> bool:
    """Rewrite a StridedSlice in place; whether it is one that adds axes.

    `numbers` are its begin, end and strides; None for what is no constant: left alone.
    """
    masks = {
        name: int(node.attr[name].i) if name in node.attr else 0
        for name in (*_MASKS, _NEW)
    }
    known = [np.asarray(row) for row in numbers if row is not None]
    if not masks[_NEW] or len(known) < len(numbers):
        return False
    parts = divide_slice(np.stack(known), masks)
    if parts is None:
        return False
    kind = node.attr["T"].type
    source = node.input[0]
    if not parts.takes_all:
        source = _add_slice(nodes, node, parts)
    for count, axis in enumerate(parts.axes):
        last = count == len(parts.axes) - 1
        into = node if last else nodes.add(name=f"{node.name}/axis_{count}")
        place = add_constant(nodes, f"{node.name}/place_{count}", np.int32(axis))
        become(into, "ExpandDims", [source, place], T=kind, Tdim=number_of("int32"))
        source = f"{into.name}:output:0"
    return True


def _add_slice(nodes: Any, node: Any, parts: DividedSlice) -> str:
    """Add the slice without new axes; gives the name of its output."""
    name = f"{node.name}/rest"
    types = {key: node.attr[key].type for key in ("T", "Index")}
    given = [
        add_constant(nodes, f"{name}/{key}", row)
        for key, row in zip(("begin", "end", "strides"), parts.numbers, strict=True)
    ]
    rest = nodes.add(name=name)
    become(rest, "StridedSlice", [node.input[0], *given], **types)
    for key, bits in parts.masks.items():
        rest.attr[key].i = bits
    return f"{name}:output:0"
