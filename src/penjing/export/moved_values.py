"""Operators that only move integers, between tensors of different scales.

LiteRT copies the integers as they are. The converter gives most such operators one
scale, but calibrates what comes out of REVERSE_V2, and so of a bidirectional layer, by
itself: values are then off by the ratio of the two.
"""

from __future__ import annotations

import numpy as np

from penjing.tflite.graph_edits import (
    add_tensor,
    insert_after,
    make_operator,
    set_input,
)
from penjing.tflite.operators import Operator, operator_code, operators
from penjing.tflite.records import Record

_MOVING = operators(
    """
    BATCH_TO_SPACE_ND BROADCAST_TO DEPTH_TO_SPACE EXPAND_DIMS GATHER GATHER_ND
    MIRROR_PAD PAD RESHAPE REVERSE_V2 SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH SQUEEZE
    STRIDED_SLICE TILE TRANSPOSE
    """
)
_CHOOSING = operators("SELECT SELECT_V2")  # between their last two inputs
_QUANTIZE_VERSION = 2


def keep_moved_values(model: Record) -> bool:
    """Let QUANTIZE change the scale where an operator only moves, in place.

    Gives whether there was such a place.
    """
    found = False
    for graph in model["subgraphs"]:
        for operator in list(graph["operators"]):
            code = operator_code(model, operator)
            if code in _MOVING:
                found |= _keep(model, graph, operator)
            elif code in _CHOOSING:
                for place in (1, 2):
                    found |= _keep_chosen(model, graph, operator, place)
    return found


def _keep(model: Record, graph: Record, operator: Record) -> bool:
    source = graph["tensors"][int(operator["inputs"][0])]
    output = int(operator["outputs"][0])
    result = graph["tensors"][output]
    if not _differ(source, result):
        return False
    moved = result.copy()
    moved["quantization"] = source["quantization"].copy()
    operator["outputs"] = np.array([add_tensor(graph, moved)], "<i4")
    made = _quantize(model, int(operator["outputs"][0]), output)
    insert_after(graph, operator, made)
    return True


def _keep_chosen(model: Record, graph: Record, operator: Record, place: int) -> bool:
    """The same before an operator, at one of its inputs."""
    number = int(operator["inputs"][place])
    source, result = (
        graph["tensors"][n] for n in (number, int(operator["outputs"][0]))
    )
    if not _differ(source, result):
        return False
    scaled = source.copy()
    scaled.drop("buffer")
    scaled["quantization"] = result["quantization"].copy()
    set_input(operator, place, add_tensor(graph, scaled))
    made = _quantize(model, number, int(operator["inputs"][place]))
    before = list(graph["operators"])
    where = next(n for n, found in enumerate(before) if found is operator)
    graph["operators"] = [*before[:where], made, *before[where:]]
    return True


def _differ(source: Record, result: Record) -> bool:
    tables = source["quantization"], result["quantization"]
    if any(table is None or len(table["scale"]) != 1 for table in tables):
        return False
    return source["type"] == result["type"] and _steps(tables[0]) != _steps(tables[1])


def _quantize(model: Record, number: int, output: int) -> Record:
    return make_operator(
        model,
        Operator.QUANTIZE,
        [number],
        output,
        options=Record("QuantizeOptions"),
        version=_QUANTIZE_VERSION,
    )


def _steps(table: Record) -> tuple[float, int]:
    return float(table["scale"][0]), int(table["zero_point"][0])
