"""Operators that only move integers, between tensors of different scales.

LiteRT copies the integers as they are. The converter gives most such operators one
scale, but calibrates what comes out of REVERSE_V2, and so of a bidirectional layer, by
itself: values are then off by the ratio of the two.
"""

from __future__ import annotations

import numpy as np

from penjing.tflite.graph_edits import add_tensor, insert_after, make_operator
from penjing.tflite.operators import Operator, operator_code, operators
from penjing.tflite.records import Record

_MOVING = operators(
    """
    BATCH_TO_SPACE_ND BROADCAST_TO DEPTH_TO_SPACE EXPAND_DIMS GATHER GATHER_ND
    MIRROR_PAD PAD RESHAPE REVERSE_V2 SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH SQUEEZE
    STRIDED_SLICE TILE TRANSPOSE
    """
)
_QUANTIZE_VERSION = 2


def keep_moved_values(model: Record) -> bool:
    """Let QUANTIZE change the scale where an operator only moves, in place.

    Gives whether there was such a place.
    """
    found = False
    for graph in model["subgraphs"]:
        for operator in list(graph["operators"]):
            if operator_code(model, operator) in _MOVING:
                found |= _keep(model, graph, operator)
    return found


def _keep(model: Record, graph: Record, operator: Record) -> bool:
    source = graph["tensors"][int(operator["inputs"][0])]
    output = int(operator["outputs"][0])
    result = graph["tensors"][output]
    tables = source["quantization"], result["quantization"]
    if any(table is None or len(table["scale"]) != 1 for table in tables):
        return False
    if source["type"] != result["type"] or _steps(tables[0]) == _steps(tables[1]):
        return False
    moved = result.copy()
    moved["quantization"] = tables[0].copy()
    operator["outputs"] = np.array([add_tensor(graph, moved)], "<i4")
    quantize = make_operator(
        model,
        Operator.QUANTIZE,
        operator["outputs"],
        output,
        options=Record("QuantizeOptions"),
        version=_QUANTIZE_VERSION,
    )
    insert_after(graph, operator, quantize)
    return True


def _steps(table: Record) -> tuple[float, int]:
    return float(table["scale"][0]), int(table["zero_point"][0])
