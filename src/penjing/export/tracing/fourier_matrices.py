"""Fourier transforms as products with matrices of cosines and sines.

LiteRT has a kernel for RFFT alone. A model that takes the transform of one or two axes,
as F-Net does to mix words, needs no complex number where it reads only real parts.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from penjing.export.tracing.graph_nodes import (
    add_constant,
    become,
    constant_values,
    number_of,
    source_of,
)

_AXES = {"FFT": (-1,), "FFT2D": (-1, -2)}
# Ports of outputs, where they are not "output".
_PORTS = dict.fromkeys(("Mul", "AddV2", "Sub", "FloorMod", "RealDiv"), "z")
_PORTS |= dict.fromkeys(("Neg", "Cos", "Sin", "Cast"), "y")


def multiply_out(nodes: Any, node: Any, by_name: dict[str, Any]) -> bool:
    """Rewrite a transform in place; whether it is one of the real parts of tensors.

    Its input is made of a real and an imaginary part, and those of its output alone
    are read. Then `Real` and `Imag` nodes become products.
    """
    if node.op not in _AXES:
        return False
    made = by_name.get(source_of(node.input[0]))
    readers = [n for n in nodes if node.name in map(source_of, n.input)]
    if made is None or made.op != "Complex" or not readers:
        return False
    if {reader.op for reader in readers} - {"Real", "Imag"}:
        return False
    parts = _Parts(nodes, node.name, number_of("float32"))
    real, imaginary = made.input[:2]
    pair: tuple[str, str | None] = (real, imaginary)
    if _is_zero(by_name.get(source_of(imaginary))):
        pair = real, None
    for axis in _AXES[node.op]:
        pair = parts.transformed(pair, axis, real)
    for reader in readers:
        source = pair[0] if reader.op == "Real" else pair[1]
        become(reader, "Identity", [str(source)], T=parts.kind)
    become(node, "Identity", [real], T=parts.kind)  # which nobody reads
    return True


def _is_zero(node: Any) -> bool:
    if node is not None and node.op == "ZerosLike":
        return True
    values = constant_values(node)
    return values is not None and not values.any()


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Adds nodes whose names begin with that of the transform."""

    nodes: Any
    name: str
    kind: int

    def transformed(
        self, pair: tuple[str, str | None], axis: int, shaped: str
    ) -> tuple[str, str]:
        """Real and imaginary part of the transform along an axis.

        exp(-i angle) is cos - i sin; `shaped` is a tensor of the same shape.
        """
        cosines, sines = self._matrices(axis, shaped)
        real, imaginary = pair
        found = self._product(cosines, real, axis), self._product(sines, real, axis)
        if imaginary is None:
            return found[0], self._add("Neg", found[1])
        return (
            self._add("AddV2", found[0], self._product(sines, imaginary, axis)),
            self._add("Sub", self._product(cosines, imaginary, axis), found[1]),
        )

    def _product(self, matrix: str, values: str, axis: int) -> str:
        pair = (values, matrix) if axis == -1 else (matrix, values)
        return self._add("BatchMatMulV2", *pair)

    def _matrices(self, axis: int, shaped: str) -> tuple[str, str]:
        """Cosines and sines of 2 pi j k / size, `(size, size)`, for any size.

        j k is taken modulo the size, in integers, as a float would lose the turns.
        """
        whole = number_of("int32")
        zero, one = (self._constant(np.int32(value)) for value in (0, 1))
        size = self._size(axis, shaped)
        steps = self._made("Range", zero, size, one, Tidx=whole)
        row = self._made("ExpandDims", steps, zero, T=whole, Tdim=whole)
        column = self._made("ExpandDims", steps, one, T=whole, Tdim=whole)
        turns = self._made("Mul", row, column, T=whole)
        turns = self._made("FloorMod", turns, size, T=whole)
        turns = self._made("Cast", turns, SrcT=whole, DstT=self.kind)
        sizes = self._made("Cast", size, SrcT=whole, DstT=self.kind)
        angles = self._add("Mul", turns, self._constant(np.float32(2 * math.pi)))
        angles = self._add("RealDiv", angles, sizes)
        return self._add("Cos", angles), self._add("Sin", angles)

    def _size(self, axis: int, shaped: str) -> str:
        """The number of entries on an axis, as the graph knows it when it runs."""
        whole = number_of("int32")
        shape = self._made("Shape", shaped, T=self.kind, out_type=whole)
        place = [
            self._constant(np.asarray([value], "int32"))
            for value in (axis, axis + 1, 1)
        ]
        size = self._made("StridedSlice", shape, *place, T=whole, Index=whole)
        self.nodes[-1].attr["shrink_axis_mask"].i = 1
        return size

    def _add(self, operation: str, *inputs: str) -> str:
        return self._made(operation, *inputs, T=self.kind)

    def _made(self, operation: str, *inputs: str, **types: int) -> str:
        """Add a node; gives the name of its output."""
        node = self.nodes.add(name=self._next())
        become(node, operation, list(inputs), **types)
        return f"{node.name}:{_PORTS.get(operation, 'output')}:0"

    def _constant(self, value: Any) -> str:
        return add_constant(self.nodes, self._next(), value)

    def _next(self) -> str:
        return f"{self.name}/part_{len(self.nodes)}"
