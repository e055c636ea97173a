"""Weights in a file, and the operators that read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, is_plain

# (Operator, input) that takes weights -> the axis of its output channels.
CHANNEL_AXES: dict[tuple[int, int], int] = {
    (Operator.CONV_2D, 1): 0,
    (Operator.DEPTHWISE_CONV_2D, 1): 3,
    (Operator.FULLY_CONNECTED, 1): 0,
    (Operator.TRANSPOSE_CONV, 1): 0,
    (Operator.GATHER, 0): -1,
    (Operator.BATCH_MATMUL, 0): -2,
    (Operator.BATCH_MATMUL, 1): -1,
    (Operator.CONV_3D, 1): 4,
    (Operator.CONV_3D_TRANSPOSE, 1): 3,
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WeightUse:
    """An operator that reads a tensor as its input at a position."""

    operator: Record
    position: int
    code: int

    @property
    def takes_weights(self) -> bool:
        """Whether the operator multiplies by what it reads there."""
        return (self.code, self.position) in CHANNEL_AXES

    def channel_axis(self, rank: int) -> int:
        """The axis of output channels of weights with so many axes."""
        return CHANNEL_AXES[self.code, self.position] % rank

    def needs_channels(self, graph: Record) -> bool:
        """Whether the kernel computes something else with one scale for its weights.

        That of depthwise convolutions reads one for each channel, whether it is there
        or not; that of grouped convolutions asks for them.
        """
        inputs = self.operator["inputs"]
        if self.code == Operator.CONV_2D:
            data, weights = (graph["tensors"][int(number)] for number in inputs[:2])
            return bool(data["shape"][-1] != weights["shape"][-1])
        return self.code in (Operator.DEPTHWISE_CONV_2D, Operator.TRANSPOSE_CONV)

    def raise_version(self, model: Record, versions: Mapping[int, int]) -> None:
        """Give the operator's code at least the version of a table by operators."""
        code = model["operator_codes"][self.operator["opcode_index"]]
        code["version"] = max(code["version"], versions[self.code])


def find_uses(model: Record, graph: Record) -> dict[int, list[WeightUse]]:
    """Number of each tensor of a graph -> what reads it."""
    uses: dict[int, list[WeightUse]] = {}
    for operator in graph["operators"]:
        code = operator_code(model, operator)
        for position, number in enumerate(operator["inputs"]):
            use = WeightUse(operator=operator, position=position, code=code)
            uses.setdefault(int(number), []).append(use)
    return uses


def find_weights(
    model: Record, graph: Record, kind: TensorType
) -> Iterator[tuple[int, list[WeightUse]]]:
    """Constants of a type and of two axes or more that are read as weights alone.

    Gives the number of the tensor in the graph, and what reads it. The model may be
    changed between one weight and the next.
    """
    uses = find_uses(model, graph)
    outputs = set(map(int, graph["outputs"]))
    for number, tensor in enumerate(graph["tensors"]):
        readers = uses.get(number, [])
        if (
            tensor["type"] == kind
            and len(tensor["shape"]) > 1
            and readers
            and number not in outputs
            and is_plain(model, tensor)
            and all(use.takes_weights for use in readers)
        ):
            yield number, readers
