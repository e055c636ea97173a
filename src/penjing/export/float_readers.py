"""Operators in float that the converter lets read integers.

Where a model in training rounds what a layer without trained ranges reads, such as
attention, the converter makes the weights of that layer int8 and takes DEQUANTIZE away
before it. No kernel takes int8 inputs and gives floats.
"""

from __future__ import annotations

from penjing.tflite.graph_edits import add_tensor, make_operator, set_input
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType

_VERSION = 2  # of DEQUANTIZE, from where on it takes int8
_READERS = (
    Operator.BATCH_MATMUL,
    Operator.CONV_2D,
    Operator.DEPTHWISE_CONV_2D,
    Operator.FULLY_CONNECTED,
)


def restore_floats(model: Record) -> bool:
    """Put DEQUANTIZE before operators that read int8 and give floats, in place.

    Gives whether there were any.
    """
    found = False
    for graph in model["subgraphs"]:
        floats: dict[int, int] = {}  # int8 tensor -> the same in float
        operators: list[Record] = []
        for operator in graph["operators"]:
            source = int(operator["inputs"][0]) if len(operator["inputs"]) else -1
            if _is_mixed(model, graph, operator):
                if source not in floats:
                    floats[source], dequantize = _in_floats(model, graph, source)
                    operators.append(dequantize)
                set_input(operator, 0, floats[source])
            operators.append(operator)
        found = found or bool(floats)
        graph["operators"] = operators
    return found


def _is_mixed(model: Record, graph: Record, operator: Record) -> bool:
    if operator_code(model, operator) not in _READERS:
        return False
    tensors = graph["tensors"]
    kinds = [tensors[operator[side][0]]["type"] for side in ("inputs", "outputs")]
    return kinds == [TensorType.INT8, TensorType.FLOAT32]


def _in_floats(model: Record, graph: Record, source: int) -> tuple[int, Record]:
    """The number of a new tensor, and the operator that fills it from an int8 one."""
    tensor = graph["tensors"][source].copy()
    tensor["type"], tensor["quantization"] = TensorType.FLOAT32, None
    number = add_tensor(graph, tensor)
    return number, make_operator(
        model,
        Operator.DEQUANTIZE,
        [source],
        number,
        options=Record("DequantizeOptions"),
        version=_VERSION,
    )
