"""What TFLM does not read goes, as nobody else runs a packed file; and the way back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from penjing.tflite.cleaning import (
    drop_ranges,
    drop_repeated_shapes,
    drop_unused,
    name_ends,
)
from penjing.tflite.operators import WEIGHTED, Operator, number_of, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, all_tensors

# Of these kernels the bias has the step of input and weights, whatever is stored.
_SCALED_BY_WEIGHTS = (Operator.CONV_2D, Operator.DEPTHWISE_CONV_2D)


def slim(model: Record) -> None:
    """Leave out what TFLM does not read, in place.

    Signatures, metadata and ranges, not yet names, which inputs and outputs get of the
    signature; sizes that were free; zero points of
    weights beyond the first, as all of them are 0; and scales of biases that follow
    from those of weights and input. Outputs keep the order that they have in the graph.
    """
    name_ends(model)
    model.drop("signature_defs", "metadata", "metadata_buffer", "description")
    for graph in model["subgraphs"]:
        for record in (graph, *graph["operators"]):
            record.drop("debug_metadata_index")
    drop_ranges(model)
    for tensor in all_tensors(model):
        tensor.drop("shape_signature")
        _slim_scales(tensor)
    drop_repeated_shapes(model)
    for bias, scales in _biases(model):
        table = bias["quantization"]
        if table and np.array_equal(table["scale"], scales) and not _has_points(table):
            bias.drop("quantization")
    for code in model["operator_codes"]:
        if number_of(code) == code["deprecated_builtin_code"]:
            code.drop("builtin_code")
    drop_unused(model)


def _slim_scales(tensor: Record) -> None:
    table = tensor["quantization"]
    if not table:
        return
    if len(table["scale"]) == 1:
        table.drop("quantized_dimension")
    elif len(table["zero_point"]) > 1 and not table["zero_point"].any():
        table["zero_point"] = table["zero_point"][:1]


def _has_points(table: Record) -> bool:
    return bool(np.any(table["zero_point"]))


def fill_scales(model: Record) -> None:
    """Put back the zero points and the scales that `slim` left out, in place."""
    for bias, scales in _biases(model):
        if not bias["quantization"]:
            bias["quantization"] = Record("QuantizationParameters", scale=scales)
    for tensor in all_tensors(model):
        table = tensor["quantization"]
        if table and len(table["zero_point"]) < len(table["scale"]):
            points = table["zero_point"] if len(table["zero_point"]) else [0]
            table["zero_point"] = np.resize(
                np.asarray(points, "<i8"), len(table["scale"])
            )


def _biases(
    model: Record,
) -> Iterator[tuple[Record, np.ndarray[tuple[int], np.dtype[np.float32]]]]:
    """Biases of integer kernels, each with the scales that these take it to have."""
    for graph in model["subgraphs"]:
        tensors = graph["tensors"]
        for operator in graph["operators"]:
            code = operator_code(model, operator)
            places, inputs = WEIGHTED.get(code), operator["inputs"]
            if places is None or len(inputs) <= places.bias or inputs[places.bias] < 0:
                continue
            x, weights = (
                tensors[inputs[p]]["quantization"] for p in (places.x, places.weights)
            )
            bias = tensors[inputs[places.bias]]
            if (
                not x
                or not weights
                or not len(x["scale"])
                or bias["type"] not in (TensorType.INT32, TensorType.INT64)
            ):
                continue
            if code in _SCALED_BY_WEIGHTS or len(weights["scale"]) > 1:
                yield bias, (x["scale"][:1] * weights["scale"]).astype("<f4")
