"""Which units of a graph can change places: hidden units and channels.

The last axis of every tensor is described as a row of blocks, each a group of units.
Groups that an operation ties together are joined; a group that meets an operation
which is not known here, or an input or output of the graph, stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penjing.tflite.operators import Operator, operator_code, operators
from penjing.tflite.records import Record
from penjing.tflite.tensors import data_of, is_plain, use_counts, values_of

Blocks = tuple[int, ...]

RESHAPES = operators("RESHAPE SQUEEZE EXPAND_DIMS")
_PADS = operators("PAD PADV2 MIRROR_PAD")
_REDUCTIONS = operators("MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN")
_BINARY = operators("ADD MUL SUB DIV MAXIMUM MINIMUM SQUARED_DIFFERENCE")
# Works on each channel by itself: pooling, resizing, activations, casts.
_CHANNELWISE = operators(
    """
    AVERAGE_POOL_2D L2_POOL_2D MAX_POOL_2D RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    DEQUANTIZE QUANTIZE CAST FLOOR CEIL ROUND NEG ABS SIGN EXP LOG SIN COS SQRT RSQRT
    SQUARE LOGISTIC TANH RELU RELU_N1_TO_1 RELU_0_TO_1 RELU6 LEAKY_RELU ELU GELU
    HARD_SWISH
    """
)


@dataclasses.dataclass(frozen=True)
class Use:
    """An axis of a constant along which groups of units lie.

    Attributes:
        graph: Number of the graph.
        tensor: Number of the constant in it.
        axis: Axis of the constant.
        blocks: The groups along it, in order.
        operator: Number of the operator that reads the constant.
        ends: Whether the units end there: they are summed up into other units.
    """

    graph: int
    tensor: int
    axis: int
    blocks: Blocks
    operator: int = -1
    ends: bool = False


class UnitGroups:
    """The groups of units of a model.

    Args:
        model: Any model.

    Attributes:
        uses: Where the units lie in constants.
        sizes: Units of each group.
        blocks: The groups along the last axis of computed tensors, by the numbers of
            graph and tensor.
    """

    def __init__(self, model: Record) -> None:
        self._model = model
        self.uses: list[Use] = []
        self.sizes: list[int] = []
        self.blocks: dict[tuple[int, int], Blocks] = {}
        self._parents: list[int] = []
        self._pinned: set[int] = set()
        self._counts = use_counts(model)
        for number, graph in enumerate(model["subgraphs"]):
            found = _GraphWalk(self, model, graph, number).run()
            self.blocks |= {(number, n): blocks for n, blocks in found.items()}
        self._pin_shared()

    def movable(self) -> list[int]:
        """The groups that can be reordered, by the number of their root."""
        pinned = {self.root(group) for group in self._pinned}
        roots = {self.root(group) for use in self.uses for group in use.blocks}
        return sorted(n for n in roots - pinned if self.sizes[n] > 1)

    def root(self, group: int) -> int:
        """The group that stands for all that are joined with this one."""
        while self._parents[group] != group:
            group = self._parents[group]
        return group

    def new(self, size: int, *, pinned: bool = False) -> Blocks:
        """One more group."""
        self._parents.append(len(self.sizes))
        self.sizes.append(size)
        if pinned:
            self._pinned.add(len(self.sizes) - 1)
        return (len(self.sizes) - 1,)

    def pin(self, blocks: Blocks) -> None:
        """Keep the order of these groups."""
        self._pinned.update(blocks)

    def join(self, first: Blocks, second: Blocks) -> None:
        """Give two rows of groups the same orders; where they do not match, pin."""
        sizes = [[self.sizes[n] for n in blocks] for blocks in (first, second)]
        if sizes[0] != sizes[1]:
            self.pin(first + second)
            return
        for a, b in zip(first, second, strict=True):
            self._parents[self.root(a)] = self.root(b)

    def _pin_shared(self) -> None:
        """A constant that is read in several places must serve them all."""
        places = Counter((use.graph, use.tensor, use.axis) for use in self.uses)
        for use in self.uses:
            tensor = self._model["subgraphs"][use.graph]["tensors"][use.tensor]
            reads = self._counts[tensor["buffer"]]
            if max(reads, places[use.graph, use.tensor, use.axis]) > 1:
                data = values_of(self._model, tensor)
                scales = tensor["quantization"] and tensor["quantization"]["scale"]
                if (data != data.take([0], use.axis)).any() or np.size(scales) > 1:
                    self.pin(use.blocks)


class _GraphWalk:
    """Passes over the operators of a graph in the order in which they run."""

    def __init__(
        self, groups: UnitGroups, model: Record, graph: Record, number: int
    ) -> None:
        self._groups = groups
        self._model = model
        self._graph = graph
        self._number = number
        self._tensors = graph["tensors"]
        self._blocks: dict[int, Blocks] = {}
        self._sources: dict[int, int] = {}
        self._operator = -1
        self._rules: dict[int, Callable[[Record], None]] = {
            Operator.FULLY_CONNECTED: self._fully_connected,
            Operator.CONV_2D: lambda op: self._convolution(op, 0, 1, 2),
            Operator.TRANSPOSE_CONV: lambda op: self._convolution(op, 2, 1, 3),
            Operator.DEPTHWISE_CONV_2D: self._depthwise,
            Operator.CONCATENATION: self._concatenation,
            Operator.GATHER: self._gather,
            Operator.PRELU: self._binary,
            **dict.fromkeys(RESHAPES, self._reshape),
            **dict.fromkeys(_PADS, self._pad),
            **dict.fromkeys(_REDUCTIONS, self._reduce),
            **dict.fromkeys(_BINARY, self._binary),
            **dict.fromkeys(_CHANNELWISE, self._same),
        }

    def run(self) -> dict[int, Blocks]:
        """Find groups and uses; the groups of each tensor."""
        for number, operator in enumerate(self._graph["operators"]):
            self._operator = number
            code = operator_code(self._model, operator)
            if (
                code == Operator.DEQUANTIZE
                and self._constant(operator["inputs"][0]) is not None
            ):
                self._sources[int(operator["outputs"][0])] = int(operator["inputs"][0])
                continue
            self._rules.get(code, self._unknown)(operator)
            for output in map(int, operator["outputs"]):
                if output >= 0 and output not in self._blocks:
                    self._give(output, self._pinned(output))
        for number in map(int, self._graph["outputs"]):
            if number >= 0:
                self._groups.pin(self._of(number))
        return self._blocks

    # What is known of a tensor

    def _shape(self, number: int) -> tuple[int, ...]:
        return tuple(int(size) for size in self._tensors[number]["shape"])

    def _last(self, number: int) -> int:
        return (self._shape(number) or (1,))[-1]

    def _pinned(self, number: int) -> Blocks:
        return self._groups.new(self._last(number), pinned=True)

    def _of(self, number: int) -> Blocks:
        """The groups along the last axis of a tensor."""
        if number not in self._blocks:
            self._blocks[number] = self._pinned(number)
        return self._blocks[number]

    def _give(self, number: int, blocks: Blocks) -> None:
        if sum(self._groups.sizes[n] for n in blocks) != self._last(number):
            self._groups.pin(blocks)
            blocks = self._pinned(number)
        self._blocks[number] = blocks

    def _constant(self, number: int) -> int | None:
        """The constant behind a tensor, also through a DEQUANTIZE."""
        number = self._sources.get(int(number), int(number))
        if number >= 0 and is_plain(self._model, self._tensors[number]):
            return number
        return None

    def _use(
        self, number: int, axis: int, blocks: Blocks, *, ends: bool = False
    ) -> None:
        source = self._constant(number)
        fits = source is not None and self._shape(source)[axis] == sum(
            self._groups.sizes[n] for n in blocks
        )
        details = self._tensors[number]["quantization"]
        if source is None or not fits or (details and details["details"]):
            self._groups.pin(blocks)
            return
        use = Use(self._number, source, axis, blocks, self._operator, ends)
        self._groups.uses.append(use)

    # Rules

    def _unknown(self, operator: Record) -> None:
        for number in map(int, operator["inputs"]):
            if number >= 0 and not len(data_of(self._model, self._tensors[number])):
                self._groups.pin(self._of(number))

    def _same(self, operator: Record) -> None:
        self._give(int(operator["outputs"][0]), self._of(int(operator["inputs"][0])))

    def _fully_connected(self, operator: Record) -> None:
        x, weights = (int(n) for n in operator["inputs"][:2])
        options = operator["builtin_options"]
        if self._constant(weights) is None or (options and options["weights_format"]):
            self._unknown(operator)
            return
        repeats = self._shape(weights)[1] // max(self._last(x), 1)
        self._weighted(operator, self._of(x) * repeats, weights, 1, 2)

    def _convolution(self, operator: Record, x: int, weights: int, bias: int) -> None:
        inputs = [int(n) for n in operator["inputs"]]
        known = self._constant(inputs[weights]) is not None
        if not known or self._shape(inputs[weights])[3] != self._last(inputs[x]):
            self._unknown(operator)  # of groups, or with weights that are computed
            return
        self._weighted(operator, self._of(inputs[x]), inputs[weights], 3, bias)

    def _weighted(
        self, operator: Record, blocks: Blocks, weights: int, axis: int, bias: int
    ) -> None:
        units = self._groups.new(self._shape(weights)[0])
        self._use(weights, 0, units)
        self._use(weights, axis, blocks, ends=True)
        if len(operator["inputs"]) > bias and operator["inputs"][bias] >= 0:
            self._use(int(operator["inputs"][bias]), 0, units)
        self._give(int(operator["outputs"][0]), units)

    def _depthwise(self, operator: Record) -> None:
        x, weights = (int(n) for n in operator["inputs"][:2])
        if self._constant(weights) is None or self._last(weights) != self._last(x):
            self._unknown(operator)
            return
        self._use(weights, 3, self._of(x))
        if len(operator["inputs"]) > 2 and operator["inputs"][2] >= 0:
            self._use(int(operator["inputs"][2]), 0, self._of(x))
        self._same(operator)

    def _binary(self, operator: Record) -> None:
        output = int(operator["outputs"][0])
        known: list[Blocks] = []
        constants = []
        for number in map(int, operator["inputs"]):
            if self._constant(number) is not None:
                constants.append(number)
            elif self._last(number) == self._last(output):
                known.append(self._of(number))
            else:
                self._groups.pin(self._of(number))
        if not known:
            return
        for blocks in known[1:]:
            self._groups.join(known[0], blocks)
        for number in constants:
            if self._last(number) > 1:
                self._use(number, len(self._shape(number)) - 1, known[0])
        self._give(output, known[0])

    def _reshape(self, operator: Record) -> None:
        x, output = int(operator["inputs"][0]), int(operator["outputs"][0])
        blocks = self._of(x)
        before, after = max(self._last(x), 1), max(self._last(output), 1)
        if after % before == 0:
            self._give(output, blocks * (after // before))
            return
        repeats = before // after
        if before % after == 0 and len(blocks) % repeats == 0:
            part = blocks[: len(blocks) // repeats]
            if part * repeats == blocks:
                self._give(output, part)
                return
        self._groups.pin(blocks)

    def _pad(self, operator: Record) -> None:
        padding = self._constant(operator["inputs"][1])
        if padding is None or self._values(padding)[-1].any():
            self._unknown(operator)
            return
        self._same(operator)

    def _reduce(self, operator: Record) -> None:
        x, axes = (int(n) for n in operator["inputs"][:2])
        rank = len(self._shape(x))
        known = self._constant(axes)
        if known is None or (self._values(known) % max(rank, 1) == rank - 1).any():
            self._unknown(operator)
            return
        self._same(operator)

    def _concatenation(self, operator: Record) -> None:
        numbers = [int(n) for n in operator["inputs"]]
        rank = len(self._shape(numbers[0]))
        axis = operator["builtin_options"]["axis"] if operator["builtin_options"] else 0
        blocks = [self._of(n) for n in numbers]
        if axis % max(rank, 1) == rank - 1:
            self._give(int(operator["outputs"][0]), sum(blocks, ()))
            return
        for other in blocks[1:]:
            self._groups.join(blocks[0], other)
        self._give(int(operator["outputs"][0]), blocks[0])

    def _gather(self, operator: Record) -> None:
        table = int(operator["inputs"][0])
        options = operator["builtin_options"]
        plain = not options or not (options["axis"] or options["batch_dims"])
        if not plain or self._constant(table) is None or len(self._shape(table)) != 2:
            self._unknown(operator)
            return
        units = self._groups.new(self._last(table))
        self._use(table, 1, units)
        self._give(int(operator["outputs"][0]), units)

    def _values(self, number: int) -> np.ndarray[Any, Any]:
        return values_of(self._model, self._tensors[number])


def offsets_of(blocks: Sequence[int], groups: UnitGroups, root: int) -> list[int]:
    """Where the blocks of one group begin along an axis."""
    found, start = [], 0
    for block in blocks:
        if groups.root(block) == root:
            found.append(start)
        start += groups.sizes[block]
    return found
