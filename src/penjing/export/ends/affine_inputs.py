"""Scaling of integer images in integers.

A model in training rounds what `Rescaling` and `Normalization` give, not what they
take. So a file with integer inputs turns these into floats, multiplies and adds
constants, and rounds again. One depthwise convolution of a single pixel does that in
integers: each channel has a scale of its own for its weight, and a bias of 32 bits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from penjing.tflite.cleaning import drop_unused
from penjing.tflite.graph_edits import add_tensor, make_operator
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    is_plain,
    make_scales,
    set_values,
    values_of,
)

Array = np.ndarray[Any, Any]

_HIGHEST = 127
_VALID = 1  # of the schema's `Padding`
_VERSION = 3  # with a scale for each channel
_ARITHMETIC = (Operator.MUL, Operator.ADD, Operator.SUB, Operator.DIV)


def fold_affine(model: Record) -> bool:
    """Let images be scaled in integers, in place; whether there was such a place."""
    found = False
    for graph in model["subgraphs"]:
        for start in list(graph["operators"]):
            if operator_code(model, start) == Operator.DEQUANTIZE:
                chain = _chain(model, graph, start)
                if chain is not None and _is_scaling(model, graph, chain):
                    _replace(model, graph, chain)
                    found = True
    if found:
        drop_unused(model)
    return found


@dataclasses.dataclass(kw_only=True, eq=False)
class _Chain:
    """From an int8 tensor to an int8 tensor: `real = gain * real + offset`."""

    operators: list[Record]
    gain: Any
    offset: Any

    @property
    def source(self) -> int:
        """The tensor before it."""
        return int(self.operators[0]["inputs"][0])

    @property
    def result(self) -> int:
        """The tensor behind it."""
        return int(self.operators[-1]["outputs"][0])


def _is_scaling(model: Record, graph: Record, chain: _Chain) -> bool:
    """Whether both ends are int8 images, and each channel keeps its values."""
    ends = [graph["tensors"][n] for n in (chain.source, chain.result)]
    sizes = np.broadcast(chain.gain, chain.offset).size
    return (
        len(chain.operators) > 2
        and bool(np.all(chain.gain != 0))
        and all(
            tensor["type"] == TensorType.INT8
            and not is_plain(model, tensor)
            and len(tensor["shape"]) == 4
            and len(tensor["quantization"]["scale"]) == 1
            and sizes in (1, tensor["shape"][-1])
            for tensor in ends
        )
    )


def _chain(model: Record, graph: Record, start: Record) -> _Chain | None:
    """What follows a DEQUANTIZE up to a QUANTIZE, all of it arithmetic on constants."""
    chain = _Chain(operators=[start], gain=np.float64(1), offset=np.float64(0))
    while True:
        last = int(chain.operators[-1]["outputs"][0])
        readers = [o for o in graph["operators"] if last in o["inputs"]]
        if len(readers) != 1 or last in graph["outputs"]:
            return None
        (operator,) = readers
        chain.operators.append(operator)
        if operator_code(model, operator) == Operator.QUANTIZE:
            return chain
        if not _take(model, graph, operator, chain):
            return None


def _take(model: Record, graph: Record, operator: Record, chain: _Chain) -> bool:
    """Add an operator to a chain; whether it is arithmetic with a constant."""
    code = operator_code(model, operator)
    options = operator["builtin_options"]
    if code not in _ARITHMETIC or (options and options["fused_activation_function"]):
        return False
    first, second = (graph["tensors"][n] for n in operator["inputs"])
    is_second = is_plain(model, second)
    constant = second if is_second else first
    if not is_plain(model, constant) or constant["type"] != TensorType.FLOAT32:
        return False
    values = values_of(model, constant).astype("float64")
    if values.size != np.prod(values.shape[-1:]):
        return False  # it varies along other axes than the channels
    values = values.reshape(-1)
    if code == Operator.DIV and is_second:
        values, code = 1 / values, Operator.MUL
    if code == Operator.DIV:
        return False
    if code == Operator.MUL:
        chain.gain, chain.offset = chain.gain * values, chain.offset * values
        return True
    sign = -1 if code == Operator.SUB else 1
    if code == Operator.SUB and not is_second:
        chain.gain, chain.offset = -chain.gain, -chain.offset
        sign = 1
    chain.offset = chain.offset + sign * values
    return True


def _replace(model: Record, graph: Record, chain: _Chain) -> None:
    """Put one depthwise convolution in the place of a chain."""
    source, result = (graph["tensors"][n] for n in (chain.source, chain.result))
    channels = int(result["shape"][-1])
    gain = np.broadcast_to(chain.gain, channels)
    scales = np.abs(gain) / _HIGHEST
    weights = (np.sign(gain) * _HIGHEST).astype("int8").reshape(1, 1, 1, -1)
    steps = float(source["quantization"]["scale"][0]) * scales
    bias = np.rint(chain.offset / steps).astype("<i4")
    inputs = [
        chain.source,
        _add(model, graph, weights, TensorType.INT8, make_scales(scales, 3)),
        _add(model, graph, bias, TensorType.INT32, make_scales(steps)),
    ]
    options = Record(
        "DepthwiseConv2DOptions",
        padding=_VALID,
        stride_w=1,
        stride_h=1,
        depth_multiplier=1,
    )
    convolution = make_operator(
        model,
        Operator.DEPTHWISE_CONV_2D,
        inputs,
        chain.result,
        options=options,
        version=_VERSION,
    )
    left = [o for o in graph["operators"] if o not in chain.operators[:-1]]
    graph["operators"] = [convolution if o is chain.operators[-1] else o for o in left]


def _add(
    model: Record, graph: Record, values: Array, kind: TensorType, scales: Record
) -> int:
    tensor = Record(
        "Tensor",
        shape=np.array(values.shape, "int32"),
        type=kind,
        quantization=scales,
        name=b"scaled_input",
    )
    set_values(model, tensor, values)
    return add_tensor(graph, tensor)
