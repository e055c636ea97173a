"""Which units of a graph can change places: hidden units and channels.

The last axis of every tensor is described as a row of blocks, each a group of units.
Groups that an operation ties together are joined; a group that meets an operation
which is not known here, or an input or output of the graph, stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from penjing.shrinking.graph_walk import GraphWalk
from penjing.tflite.operators import WEIGHTED, Call, Operator, operators
from penjing.tflite.records import Record
from penjing.tflite.tensors import data_of, use_counts, values_of

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
    """An axis of a constant, by number, along which groups of units lie, in order.

    `call` is the operator that reads the constant. `ends` says that the units end
    there: they are summed up into other units.
    """

    graph: int
    tensor: int
    axis: int
    blocks: Blocks
    call: Call
    ends: bool = False

    def constant(self, model: Record) -> Record:
        """The constant."""
        tensor: Record = model["subgraphs"][self.graph]["tensors"][self.tensor]
        return tensor


class UnitGroups:
    """The groups of units of a model: where they lie in constants, and their sizes.

    `blocks` are for each graph the groups along the last axis of computed tensors.
    """

    def __init__(self, model: Record) -> None:
        self._model = model
        self.uses: list[Use] = []
        self.sizes: list[int] = []
        self._parents: list[int] = []
        self._pinned: set[int] = set()
        self._counts = use_counts(model)
        graphs = range(len(model["subgraphs"]))
        self.blocks = [_UnitWalk(self, model, number).run() for number in graphs]
        self._pin_shared()

    def movable(self) -> list[int]:
        """The groups that can be reordered, by the number of their root."""
        pinned = {self.root(group) for group in self._pinned}
        roots = {self.root(group) for use in self.uses for group in use.blocks}
        return sorted(n for n in roots - pinned if self.sizes[n] > 1)

    def root(self, group: int) -> int:
        """The group that stands for all that are joined with this one."""
        parents = self._parents
        while parents[group] != group:
            parents[group] = group = parents[parents[group]]  # a chain gets shorter
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
            tensor = use.constant(self._model)
            reads = self._counts[tensor["buffer"]]
            if max(reads, places[use.graph, use.tensor, use.axis]) > 1:
                data = values_of(self._model, tensor)
                scales = tensor["quantization"] and tensor["quantization"]["scale"]
                if (data != data.take([0], use.axis)).any() or np.size(scales) > 1:
                    self.pin(use.blocks)


class _UnitWalk(GraphWalk):
    """Finds the groups along the last axis of each tensor, and where they are used."""

    def __init__(self, groups: UnitGroups, model: Record, number: int) -> None:
        super().__init__(model, number)
        self._groups = groups
        self._blocks: dict[int, Blocks] = {}
        self._rules: dict[int, Callable[[Call], None]] = {
            Operator.FULLY_CONNECTED: self._fully_connected,
            Operator.CONV_2D: self._convolution,
            Operator.TRANSPOSE_CONV: self._convolution,
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
        for call in self.calls():
            self._rules.get(call.code, self._unknown)(call)
            for output in call.outputs:
                if output >= 0 and output not in self._blocks:
                    self._give(output, self._pinned(output))
        for number in map(int, self._graph["outputs"]):
            if number >= 0:
                self._groups.pin(self._of(number))
        return self._blocks

    def _pinned(self, number: int) -> Blocks:
        return self._groups.new(self.last(number), pinned=True)

    def _of(self, number: int) -> Blocks:
        """The groups along the last axis of a tensor."""
        if number not in self._blocks:
            self._blocks[number] = self._pinned(number)
        return self._blocks[number]

    def _give(self, number: int, blocks: Blocks) -> None:
        if sum(self._groups.sizes[n] for n in blocks) != self.last(number):
            self._groups.pin(blocks)
            blocks = self._pinned(number)
        self._blocks[number] = blocks

    def _use(
        self, call: Call, number: int, axis: int, blocks: Blocks, *, ends: bool = False
    ) -> None:
        source = self.source(number)
        fits = source is not None and self.shape(source)[axis] == sum(
            self._groups.sizes[n] for n in blocks
        )
        details = self._tensors[number]["quantization"]
        if source is None or not fits or (details and details["details"]):
            self._groups.pin(blocks)
            return
        use = Use(self._number, source, axis, blocks, call, ends)
        self._groups.uses.append(use)

    # Rules

    def _unknown(self, call: Call) -> None:
        for number in call.inputs:
            if number >= 0 and not len(data_of(self.model, self._tensors[number])):
                self._groups.pin(self._of(number))

    def _same(self, call: Call) -> None:
        self._give(call.output, self._of(call.inputs[0]))

    def _fully_connected(self, call: Call) -> None:
        x, weights = call.inputs[:2]
        if self.source(weights) is None or call.option("weights_format"):
            self._unknown(call)
            return
        repeats = self.shape(weights)[1] // max(self.last(x), 1)
        self._weighted(call, 1, self._of(x) * repeats)

    def _convolution(self, call: Call) -> None:
        places = WEIGHTED[call.code]
        x, weights = call.inputs[places.x], call.inputs[places.weights]
        if self.source(weights) is None or self.shape(weights)[3] != self.last(x):
            self._unknown(call)  # of groups, or with weights that are computed
            return
        self._weighted(call, 3, self._of(x))

    def _weighted(self, call: Call, axis: int, blocks: Blocks) -> None:
        weights = call.inputs[WEIGHTED[call.code].weights]
        units = self._groups.new(self.shape(weights)[0])
        self._use(call, weights, 0, units)
        self._use(call, weights, axis, blocks, ends=True)
        self._use_bias(call, units)
        self._give(call.output, units)

    def _use_bias(self, call: Call, units: Blocks) -> None:
        bias = call.input(WEIGHTED[call.code].bias)
        if bias >= 0:
            self._use(call, bias, 0, units)

    def _depthwise(self, call: Call) -> None:
        x, weights = call.inputs[:2]
        if self.source(weights) is None or self.last(weights) != self.last(x):
            self._unknown(call)
            return
        self._use(call, weights, 3, self._of(x))
        self._use_bias(call, self._of(x))
        self._same(call)

    def _binary(self, call: Call) -> None:
        known: list[Blocks] = []
        constants = []
        for number in call.inputs:
            if self.source(number) is not None:
                constants.append(number)
            elif self.last(number) == self.last(call.output):
                known.append(self._of(number))
            else:
                self._groups.pin(self._of(number))
        if not known:
            return
        for blocks in known[1:]:
            self._groups.join(known[0], blocks)
        for number in constants:
            if self.last(number) > 1:
                self._use(call, number, len(self.shape(number)) - 1, known[0])
        self._give(call.output, known[0])

    def _reshape(self, call: Call) -> None:
        x = call.inputs[0]
        blocks = self._of(x)
        before, after = max(self.last(x), 1), max(self.last(call.output), 1)
        if after % before == 0:
            self._give(call.output, blocks * (after // before))
            return
        repeats = before // after
        part = blocks[: len(blocks) // max(repeats, 1)]
        if before % after == 0 and part * repeats == blocks:
            self._give(call.output, part)
        else:
            self._groups.pin(blocks)

    def _pad(self, call: Call) -> None:
        padding = self.source(call.inputs[1])
        if padding is None or self.values(padding)[-1].any():
            self._unknown(call)
            return
        self._same(call)

    def _reduce(self, call: Call) -> None:
        x, axes = call.inputs[:2]
        rank = len(self.shape(x))
        known = self.source(axes)
        if known is None or (self.values(known) % max(rank, 1) == rank - 1).any():
            self._unknown(call)
            return
        self._same(call)

    def _concatenation(self, call: Call) -> None:
        rank = len(self.shape(call.inputs[0]))
        blocks = [self._of(n) for n in call.inputs]
        if call.option("axis") % max(rank, 1) == rank - 1:
            self._give(call.output, sum(blocks, ()))
            return
        for other in blocks[1:]:
            self._groups.join(blocks[0], other)
        self._give(call.output, blocks[0])

    def _gather(self, call: Call) -> None:
        table = call.inputs[0]
        is_plain = not (call.option("axis") or call.option("batch_dims"))
        is_table = self.source(table) is not None and len(self.shape(table)) == 2
        if not (is_plain and is_table):
            self._unknown(call)
            return
        units = self._groups.new(self.last(table))
        self._use(call, table, 1, units)
        self._give(call.output, units)


def per_unit_fields(tensor: Record, axis: int) -> list[str]:
    """The fields of a constant's quantization with an entry for each unit."""
    quantization = tensor["quantization"]
    if not quantization or quantization["quantized_dimension"] != axis:
        return []
    names = ("scale", "zero_point", "min", "max")
    return [name for name in names if len(quantization[name]) > 1]


def offsets_of(blocks: Sequence[int], groups: UnitGroups, root: int) -> list[int]:
    """Where the blocks of one group begin along an axis."""
    found, start = [], 0
    for block in blocks:
        if groups.root(block) == root:
            found.append(start)
        start += groups.sizes[block]
    return found
