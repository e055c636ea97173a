"""Biases in fewer mantissa bits, scales in one number: bytes that compress away."""

from __future__ import annotations

from typing import Any

import numpy as np

from penjing.tflite.operators import WEIGHTED, calls
from penjing.tflite.records import Edit, Record
from penjing.tflite.tensors import TensorType, is_plain, set_values, values_of

_MANTISSA_BITS = 23


def round_mantissa(values: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Round a float32 array to few bits, 0 to 23, behind the leading one.

    Halves are rounded to even. Infinities and NaN stay.

    Example:
        >>> round_mantissa(np.array([1.3, -5.1], "f4"), 2)
        array([ 1.25, -5.  ], dtype=float32)
    """
    codes = np.ascontiguousarray(values, "<f4").view("<u4")
    drop = _MANTISSA_BITS - bits
    if not drop:
        return values
    half = np.uint32((1 << (drop - 1)) - 1)
    odd = codes >> np.uint32(drop) & np.uint32(1)
    rounded = (codes + half + odd) >> np.uint32(drop) << np.uint32(drop)
    result = rounded.view("<f4")
    return np.where(np.isfinite(values) & np.isfinite(result), result, values)


def round_biases(model: Record, bits: int) -> int:
    """Round float32 biases to mantissa bits in place, and give the number rounded.

    They are the biases of convolutions and dense layers.
    """
    biases = {id(tensor): tensor for tensor in _biases(model)}
    for tensor in biases.values():
        set_values(model, tensor, round_mantissa(values_of(model, tensor), bits))
    return len(biases)


def _biases(model: Record) -> list[Record]:
    found = [
        graph["tensors"][call.input(WEIGHTED[call.code].bias)]
        for graph in model["subgraphs"]
        for call in calls(model, graph)
        if call.code in WEIGHTED and call.input(WEIGHTED[call.code].bias) >= 0
    ]
    return [
        tensor
        for tensor in found
        if tensor["type"] == TensorType.FLOAT32 and is_plain(model, tensor)
    ]


def equal_scale_edits(model: Record) -> list[Edit]:
    """One scale where all channels have the same; each edit concerns one tensor."""
    return [
        _edit(g, t)
        for g, graph in enumerate(model["subgraphs"])
        for t, tensor in enumerate(graph["tensors"])
        if tensor["quantization"] and _all_equal(tensor["quantization"])
    ]


def _all_equal(quantization: Record) -> bool:
    scales, points = quantization["scale"], quantization["zero_point"]
    return bool(
        len(scales) > 1
        and len(scales) == len(points)
        and not quantization["details"]
        and (scales == scales[0]).all()
        and (points == points[0]).all()
    )


def _edit(graph: int, tensor: int) -> Edit:
    def keep_first(model: Record) -> None:
        quantization = model["subgraphs"][graph]["tensors"][tensor]["quantization"]
        for name in ("scale", "zero_point"):
            quantization[name] = quantization[name][:1]
        quantization.drop("quantized_dimension", "min", "max")

    return keep_first
