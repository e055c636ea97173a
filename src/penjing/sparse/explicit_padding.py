"""Padding that stands for itself, where sparse kernels look for it.

On odd sizes "same" pads a strided convolution by the same number on every side, and the
converter writes it so, even where the model pads explicitly. XNNPACK's sparse kernels
take only padding that an operator PAD adds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from penjing.tflite.graph_edits import add_tensor, make_operator, set_input
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, set_values

_PADDED = (Operator.CONV_2D, Operator.DEPTHWISE_CONV_2D)
_SAME, _VALID = 0, 1  # of the schema's `Padding`


def make_padding_explicit(model: Record) -> int:
    """Put PAD before strided convolutions whose "same" padding is even all around.

    The table of a float model is changed, its outputs stay; gives how many were.
    """
    changed = 0
    for graph in model["subgraphs"]:
        operators = []
        for operator in graph["operators"]:
            sides = _even_padding(model, graph, operator)
            if sides is not None:
                operators.append(_padding(model, graph, operator, sides))
                operator["builtin_options"]["padding"] = _VALID
                changed += 1
            operators.append(operator)
        graph["operators"] = operators
    return changed


def _even_padding(
    model: Record, graph: Record, operator: Record
) -> tuple[int, int] | None:
    """Rows and columns that "same" adds on each side; None where sides differ."""
    options = operator["builtin_options"]
    if operator_code(model, operator) not in _PADDED or options is None:
        return None
    strides = (int(options["stride_h"]), int(options["stride_w"]))
    dilations = (options["dilation_h_factor"], options["dilation_w_factor"])
    if options["padding"] != _SAME or strides == (1, 1) or tuple(dilations) != (1, 1):
        return None
    image = graph["tensors"][int(operator["inputs"][0])]
    kernel = graph["tensors"][int(operator["inputs"][1])]["shape"][1:3]
    sizes = _fixed_sizes(image)
    if sizes is None:
        return None
    sides = []
    for size, length, stride in zip(sizes, kernel, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + int(length) - size, 0)
        if total % 2:
            return None
        sides.append(total // 2)
    return (sides[0], sides[1]) if any(sides) else None


def _fixed_sizes(image: Record) -> tuple[int, int] | None:
    shape = image["shape"]
    free = image["shape_signature"]
    if len(shape) != 4 or (len(free) == 4 and min(free[1:3]) < 0):
        return None
    return int(shape[1]), int(shape[2])


def _padding(
    model: Record, graph: Record, operator: Record, sides: tuple[int, int]
) -> Record:
    """A new operator PAD whose output the given operator reads."""
    number = int(operator["inputs"][0])
    padded: Any = graph["tensors"][number].copy()
    padded["buffer"] = 0
    padded.drop("name", "quantization")
    rows, columns = sides
    pairs = [[0, 0], [rows, rows], [columns, columns], [0, 0]]
    values = np.array(pairs, "<i4")
    extra = values.sum(axis=1)
    padded["shape"] = (padded["shape"] + extra).astype("<i4")
    if len(padded["shape_signature"]):
        free = padded["shape_signature"]
        padded["shape_signature"] = np.where(free < 0, free, free + extra).astype("<i4")
    pads = Record("Tensor", shape=np.array([4, 2], "<i4"), type=TensorType.INT32)
    set_values(model, pads, values)
    sizes, output = add_tensor(graph, pads), add_tensor(graph, padded)
    set_input(operator, 0, output)
    options = Record("PadOptions")
    return make_operator(model, Operator.PAD, [number, sizes], output, options=options)
