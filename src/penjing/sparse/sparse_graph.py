"""What XNNPACK makes of a file with sparse weights: sparse, dense, or silently wrong.

Where weights stand behind DENSIFY, XNNPACK looks for parts of the graph to run with the
channels first. It joins operators that could, from a global average pooling upwards,
and checks that what they read is read by nobody else. It does not check who reads what
they give. So a part that the pooling never reaches is switched as well, if it holds
enough zeros: its last operator gives its values in the wrong order, and nothing is
raised. `graph_layout` follows the same steps, so that penjing knows beforehand.

Reference:
    XNNPACK `src/subgraph.c`: `xnn_subgraph_rewrite_for_nchw`
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from penjing.sparse.sparse_nodes import Node, read_nodes
from penjing.sparse.sparse_rules import (
    BINARY_OPERATORS,
    POOLING_OPERATORS,
    UNARY_OPERATORS,
)
from penjing.tflite.records import Record

MIN_ZEROS = (2, 3)
"""More than two of three weights of the 1x1 convolutions must be zero."""

# What has been seen to give right values with the channels first.
_GIVES_CHANNELS_FIRST = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "RESIZE_BILINEAR"}
).union(UNARY_OPERATORS, BINARY_OPERATORS, POOLING_OPERATORS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Who reads values with the channels first: numbers of nodes.

    Those in `misread` give wrong values, those in `sparse` have weights that sparse
    kernels use.
    """

    misread: tuple[int, ...] = ()
    sparse: tuple[int, ...] = ()

    @property
    def outcome(self) -> str:
        """What XNNPACK makes of it: "fast", "dense" or "wrong"."""
        if self.misread:
            return "wrong"
        return "fast" if self.sparse else "dense"


def graph_layout(model: Record, graph: Record, *, if_zeros: bool = False) -> Layout:
    """The layout that XNNPACK chooses for a graph of a file where weights are sparse.

    `if_zeros` takes it that there are zeros enough, to know what pruning would do.
    """
    nodes = read_nodes(model, graph)
    outside = frozenset(int(n) for n in (*graph["inputs"], *graph["outputs"]))
    search = _Search(nodes, outside)
    search.join_poolings()
    if not search.is_joined:
        return Layout()
    search.join_upwards()
    search.leave_shared()
    values = frozenset(search.switched(if_zeros))
    return Layout(
        misread=tuple(search.misread(values)),
        sparse=tuple(
            number
            for number, node in enumerate(nodes)
            if node.name == "CONV_2D" and node.is_inside and node.output in values
        ),
    )


def may_be_wrong(model: Record) -> bool:
    """Whether sparse constants would make a file wrong where XNNPACK looks for them."""
    return any(graph_layout(model, graph).misread for graph in model["subgraphs"])


class _Search:
    """Operators in groups, each named by the highest number in it."""

    def __init__(self, nodes: Sequence[Node], outside: frozenset[int]) -> None:
        self.is_joined = False
        self._nodes = nodes
        self._outside = outside
        self._makers = {node.output: n for n, node in enumerate(nodes)}
        self._group = list(range(len(nodes)))
        self._is_exit = [node.is_exit for node in nodes]
        self._is_broken = [False] * len(nodes)

    def join_poolings(self) -> None:
        """Join each pooling with what it reads."""
        for number, node in enumerate(self._nodes):
            if node.is_exit and self._is_exit[number]:
                self.is_joined |= self._join_inputs(number)

    def join_upwards(self) -> None:
        """Join all that reads from each other, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for number in self._members():
                if not self._is_broken[number]:
                    changed |= self._join_inputs(number)
        self._group = [self._root(number) for number in range(len(self._group))]
        for number, group in enumerate(self._group):
            self._is_broken[group] |= self._is_broken[number]

    def leave_shared(self) -> None:
        """Leave out groups that read what others read too."""
        readers = Counter(
            value
            for node in self._nodes
            # x * x is made a square, with one input; x + x stays, and counts twice.
            for value in (set(node.inputs) if node.name == "MUL" else node.inputs)
        )
        ours = Counter(
            n for m in self._whole_members() for n in set(self._nodes[m].inputs)
        )
        broken = [
            self._group[number]
            for number in self._whole_members()
            for value in self._nodes[number].inputs
            if ours[value] != readers[value]
        ]
        for group in broken:
            self._is_broken[group] = True

    def switched(self, if_zeros: bool) -> Iterator[int]:
        """The values that get their channels first."""
        weights: Counter[int] = Counter()
        zeros: Counter[int] = Counter()
        for number, node in enumerate(self._nodes):
            weights[self._group[number]] += node.weights_count
            zeros[self._group[number]] += node.zeros
        for number in self._whole_members():
            group = self._group[number]
            found = weights[group] if if_zeros else zeros[group]
            if found * MIN_ZEROS[1] > weights[group] * MIN_ZEROS[0]:
                yield from self._nodes[number].inputs

    def misread(self, values: frozenset[int]) -> Iterator[int]:
        """The nodes that read or give values in another order than they think."""
        for number, node in enumerate(self._nodes):
            reads = [value in values for value in node.inputs]
            if node.output in values:
                is_right = self._gives_rightly(node, all(reads))
            else:
                is_right = not any(reads) or self._reads_rightly(number)
            if not is_right:
                yield number

    def _gives_rightly(self, node: Node, reads_all: bool) -> bool:
        """Whether a node gives values with the channels first."""
        if node.name == "FULLY_CONNECTED":
            return reads_all  # one value a channel: both orders are the same
        if node.failure is not None or node.name not in _GIVES_CHANNELS_FIRST:
            return False
        if node.is_exit and any(
            node.output in reader.inputs and reader.name != "FULLY_CONNECTED"
            for reader in self._nodes
        ):
            return False
        return reads_all or node.is_stem

    def _reads_rightly(self, number: int) -> bool:
        """Whether a node gives usual values from values with the channels first."""
        node = self._nodes[number]
        if node.is_exit:
            return self._is_exit[number] and node.failure is None
        makers = [self._makers.get(value) for value in node.inputs]
        return node.name == "FULLY_CONNECTED" and all(
            maker is not None
            and (self._nodes[maker].is_exit or self._nodes[maker].name == node.name)
            for maker in makers
        )

    def _members(self) -> Iterator[int]:
        for number, node in enumerate(self._nodes):
            if node.is_inside or self._is_exit[number]:
                yield number

    def _whole_members(self) -> Iterator[int]:
        for number in self._members():
            if not self._is_broken[self._group[number]]:
                yield number

    def _join_inputs(self, number: int) -> bool:
        changed = False
        for value in self._nodes[number].inputs:
            maker = self._makers.get(value)
            if value in self._outside or maker is None:
                self._is_broken[number] = True
                continue
            node = self._nodes[maker]
            if self._is_broken[maker] or not (node.is_inside or node.is_stem):
                self._is_broken[number] = True
                continue
            self._is_exit[maker] = False
            ours, theirs = self._root(number), self._root(maker)
            changed |= ours != theirs
            self._group[ours] = self._group[theirs] = max(ours, theirs)
        return changed

    def _root(self, number: int) -> int:
        """The highest number in the group of an operator, so far."""
        group = self._group
        while group[number] != number:
            group[number] = number = group[group[number]]  # a chain gets shorter
        return number
