"""Shapes that are computed for no reason, and other things that running does not need.

Converters turn a Flatten with a free batch size into SHAPE, STRIDED_SLICE, PACK and
RESHAPE. A constant shape with one -1 says the same.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from penjing.tflite.cleaning import drop_unused
from penjing.tflite.graph_edits import add_sizes, drop_unread, read_instead, set_input
from penjing.tflite.operators import Operator, operator_code, operators
from penjing.tflite.records import Edit, Record
from penjing.tflite.tensors import TensorType, data_of, is_plain, values_of

# Operators that only compute: those of arithmetic, shapes and moved data.
_PURE = operators(
    """
    ADD SUB MUL DIV MAXIMUM MINIMUM CAST REDUCE_PROD SHAPE RESHAPE SQUEEZE EXPAND_DIMS
    PACK UNPACK CONCATENATION GATHER SLICE STRIDED_SLICE TRANSPOSE FILL
    """
)


def fold_shapes(model: Record) -> str:
    """Write shapes as constants where only one size is computed, in place.

    The operators that nobody needs then go too; the text says how many, for the report.
    """
    before = _operator_count(model)
    for graph in model["subgraphs"]:
        producers = {int(n): op for op in graph["operators"] for n in op["outputs"]}
        for operator in graph["operators"]:
            if operator_code(model, operator) == Operator.RESHAPE:
                _fold(model, graph, operator, producers)
        drop_unread(graph, functools.partial(_is_pure, model))
    drop_unused(model)
    return f"{before - _operator_count(model)} operators"


def flattening_edits(model: Record) -> list[Edit]:
    """Take out reshapes before dense layers, which flatten by themselves.

    Each edit concerns one RESHAPE, and leaves its output behind: no number of a tensor
    changes, so any of them can be made together. `drop_unused` is to be called after.
    """
    return [
        functools.partial(_read_unflattened, g, int(operator["outputs"][0]))
        for g, graph in enumerate(model["subgraphs"])
        for operator in graph["operators"]
        if operator_code(model, operator) == Operator.RESHAPE
        and _only_feeds_dense(model, graph, operator)
    ]


def drop_inner_signatures(model: Record) -> None:
    """Say only of inputs and outputs which sizes are free, in place."""
    for graph in model["subgraphs"]:
        ends = {int(n) for n in (*graph["inputs"], *graph["outputs"])}
        for number, tensor in enumerate(graph["tensors"]):
            if number not in ends:
                tensor.drop("shape_signature")


def share_constants(model: Record) -> None:
    """Let operators that read equal constants read the same one, in place."""
    for graph in model["subgraphs"]:
        kept = {int(n) for n in (*graph["inputs"], *graph["outputs"])}
        first: dict[Any, int] = {}
        places = np.arange(len(graph["tensors"]))
        for number, tensor in enumerate(graph["tensors"]):
            if number in kept or tensor["quantization"] or not is_plain(model, tensor):
                continue
            data = data_of(model, tensor).tobytes()
            key = (data, tensor["type"], *map(int, tensor["shape"]))
            places[number] = first.setdefault(key, number)
        for operator in graph["operators"]:
            inputs = operator["inputs"]
            shared = np.where(inputs < 0, inputs, places[inputs])
            operator["inputs"] = shared.astype("<i4")
    drop_unused(model)


def _operator_count(model: Record) -> int:
    return sum(len(graph["operators"]) for graph in model["subgraphs"])


def _fold(
    model: Record, graph: Record, reshape: Record, producers: dict[int, Record]
) -> None:
    if len(reshape["inputs"]) < 2:
        return
    pack = producers.get(int(reshape["inputs"][1]))
    if pack is None or operator_code(model, pack) != Operator.PACK:
        return
    sizes = []
    for number in map(int, pack["inputs"]):
        tensor = graph["tensors"][number]
        is_size = len(tensor["shape"]) == 0 and tensor["type"] == TensorType.INT32
        if not is_size:
            return
        known = is_plain(model, tensor)
        sizes.append(int(values_of(model, tensor)) if known else -1)
    if sizes.count(-1) > 1 or min(sizes, default=0) < -1 or 0 in sizes:
        return
    set_input(reshape, 1, add_sizes(model, graph, sizes))


def _is_pure(model: Record, operator: Record) -> bool:
    return operator_code(model, operator) in _PURE


def _only_feeds_dense(model: Record, graph: Record, reshape: Record) -> bool:
    output = int(reshape["outputs"][0])
    tensors = graph["tensors"]
    shapes = [tensors[n]["shape"] for n in (reshape["inputs"][0], output)]
    readers = [op for op in graph["operators"] if output in op["inputs"]]
    return bool(
        readers
        and output not in graph["outputs"]
        and min(map(len, shapes)) > 1
        and all(_flattens(model, tensors, op, output) for op in readers)
    )


def _flattens(
    model: Record, tensors: list[Record], operator: Record, output: int
) -> bool:
    """Whether a dense layer sees the same rows without the reshape."""
    inputs, options = operator["inputs"], operator["builtin_options"]
    is_dense = operator_code(model, operator) == Operator.FULLY_CONNECTED
    if not is_dense or inputs[0] != output:
        return False
    width = int(tensors[inputs[1]]["shape"][-1])
    is_row = len(tensors[output]["shape"]) == 2 and tensors[output]["shape"][1] == width
    return is_row and not (options and options["keep_num_dims"])


def _read_unflattened(g: int, output: int, model: Record) -> None:
    graph = model["subgraphs"][g]
    reshape = next(op for op in graph["operators"] if output in op["outputs"])
    read_instead(graph, output, reshape["inputs"][0])
    graph["operators"] = [op for op in graph["operators"] if op is not reshape]
