"""What a file that computes the right outputs does not give: values, kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from penjing.export.integers.float_layers import end_names, is_named, names_of
from penjing.export.weights.fixed_weights import fixed_weights
from penjing.export.weights.integer_weights import SMALLEST_WITHOUT_GRID
from penjing.export.weights.kept_weights import lost_values, told
from penjing.export.weights.weight_grids import (
    HYBRID_INT4_VERSIONS,
    HYBRID_VERSIONS,
)
from penjing.export.weights.weight_uses import find_uses, find_weights
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.modes import Mode
from penjing.tflite.operators import Operator, operator_code, operator_name
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, data_of, tensor_name

# Operators with weights that LiteRT computes in floats alone.
_FLOAT_ONLY = (Operator.CONV_3D, Operator.CONV_3D_TRANSPOSE)
_FEW_BITS = (*HYBRID_INT4_VERSIONS, Operator.GATHER)  # which would take int4

Array = np.ndarray[Any, Any]


def file_notes(
    file: EditedFile, weights: Mapping[str, Array], mode: Mode, name: str
) -> list[str]:
    """What is to be said of a file of integers, in sentences; none where all is well.

    `weights` are those that the Keras model `name` computes with, by path. Those of
    layers that were to stay in float are no news.
    """
    notes = []
    lost = lost_values(file.model, fixed_weights(weights))
    if lost:
        notes.append(
            f'The "{mode.name}" file of `{name}` does not hold all that training fixed '
            f"in its weights: {told(lost)}."
        )
    if mode.needs_calibration:
        floats = list(float_weights(file))
        if floats:
            notes.append(
                f'In the "{mode.name}" file of `{name}` these weights stay float32: '
                f"{told(floats)}."
            )
    return notes


def slow_kernels(model: Record, mode: Mode) -> str:
    """Say what of a file runs on slower kernels than a float32 file does; else "".

    LiteRT's fast kernels on x86 and ARM, those of XNNPACK, take weights that are
    constants. What DEQUANTIZE makes when the file is loaded is none, and int16
    activations they do not know.
    """
    if mode.activations == "int16":
        return "runs slower than a float32 one: 16-bit kernels are LiteRT's plain ones"
    names = set()
    for graph in model["subgraphs"]:
        made = {
            int(operator["outputs"][0])
            for operator in graph["operators"]
            if operator_code(model, operator) == Operator.DEQUANTIZE
            and len(data_of(model, graph["tensors"][int(operator["inputs"][0])]))
        }
        names |= {
            operator_name(model, use.operator)
            for number, uses in find_uses(model, graph).items()
            for use in uses
            if number in made and use.takes_weights and use.code in HYBRID_VERSIONS
        }
    if not names:
        return ""
    return (
        "runs slower than a float32 one, up to 37 times where it was measured: "
        f"DEQUANTIZE makes the weights of {', '.join(sorted(names))} when the file is "
        "loaded, and LiteRT's fast kernels take constants alone"
    )


def wide_weights(model: Record, mode: Mode, micro: bool = False) -> str:
    """Say which weights of a file of 4 bits have more, and why; "" where none have.

    `micro` says whether it is for TensorFlow Lite Micro.
    """
    found = []
    for graph in model["subgraphs"] if mode.weight_bits == 4 else ():
        for kind in (TensorType.INT8, TensorType.FLOAT32):
            for number, uses in find_weights(model, graph, kind):
                tensor = graph["tensors"][number]
                size = int(np.prod(tensor["shape"]))
                reader = operator_name(model, uses[0].operator)
                one_scale = micro and uses[0].code == Operator.FULLY_CONNECTED
                takes = ", with one scale, as TFLM takes it" if one_scale else ""
                why = f"{reader} takes no int4 here"
                if kind == TensorType.INT8 and uses[0].code in _FEW_BITS:
                    why = f"its grid is none of 15 levels{takes}"
                if size < SMALLEST_WITHOUT_GRID:
                    few = f"fewer than {SMALLEST_WITHOUT_GRID:,}"
                    why = f"{few} on no grid of 4 bits{takes}"
                name = tensor_name(tensor)
                found.append(f"{size:,} numbers of `{name}` ({kind.dtype}: {why})")
    if not found:
        return ""
    weights = "1 weight" if len(found) == 1 else f"{len(found)} weights"
    return f"keeps more than 4 bits in {weights}: {told(found)}"


def float_weights(file: EditedFile) -> Iterator[str]:
    """The weights of a file that are float32 though nobody asked for it, and why."""
    model = file.model
    for graph in model["subgraphs"]:
        ends = end_names(graph, file.scopes)
        for number, uses in find_weights(model, graph, TensorType.FLOAT32):
            tensor = graph["tensors"][number]
            output = int(uses[0].operator["outputs"][0])
            made = ends.get(output, tensor_name(graph["tensors"][output]))
            names = names_of(made, file.scopes)
            if any(is_named(entry, names) for entry in file.float_layers):
                continue
            reader = operator_name(model, uses[0].operator)
            why = "TensorFlow's converter left it in floats"
            if uses[0].code in _FLOAT_ONLY:
                why = "LiteRT has no integer kernel for it"
            size = int(np.prod(tensor["shape"]))
            yield (
                f"{size:,} numbers of `{tensor_name(tensor)}`, which {reader} reads "
                f"({why})"
            )
