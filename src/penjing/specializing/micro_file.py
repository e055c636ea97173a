"""A file as TensorFlow Lite Micro takes it."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence

import numpy as np

from penjing.errors import ExportError, FileFormatError
from penjing.runtime.reference_runner import OPTIMIZED, REFERENCE
from penjing.runtime.tensor_values import FileExaminer, TensorValues
from penjing.specializing.composition import Array
from penjing.specializing.dilations import join_dilations
from penjing.specializing.specializing import sample_rounds, specialize_file
from penjing.specializing.tflm_compositions import compose_for_tflm
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.layer_names import layer_in
from penjing.tflite.operators import Operator, operator_code, operator_name
from penjing.tflite.records import Record, pointed_to
from penjing.tflite.tensors import TensorType, all_tensors, tensor_name
from penjing.tflite.tflm_operators import tflm_method

# Of outputs over their largest magnitude, without and with int16 within, of which some
# operators are done in floats; other integers stay the same.
_ROUNDING, _ROUNDING_16 = 1e-5, 2e-4
_MOST = 4


def fit_for_tflm(file: EditedFile, layers: Collection[str] = ()) -> None:
    """Make a file one that TFLM takes and that computes the same, in place.

    Its batch becomes 1 where it is free, and equal operators take the place of those
    that TFLM lacks. `layers` are names of the model's layers, for messages. What TFLM
    lacks then is an ExportError; a size that cannot be known is a FileFormatError.
    """
    specialize_file(file)
    before = file.content
    joined = file.edit(join_dilations)
    if file.edit(compose_for_tflm) or joined:
        _check_same(before, file)
    problems = _unknown_operators(file.model, layers) + _growing_loops(
        file.model, layers
    )
    if problems:
        raise ExportError(
            f"{file.where} is not exported for TensorFlow Lite Micro, which lacks what "
            f"it needs: {'; '.join(problems[:_MOST])}. Write these layers in other "
            "operations, or let the model begin behind them, or end before them."
        )


def _check_same(before: bytes, file: EditedFile) -> None:
    """Refuse other outputs, in LiteRT, than before operators were replaced."""
    rounds = sample_rounds(file.model, 1, file.where)
    with FileExaminer(max(len(before), len(file.content))) as examiner:
        both = (before, file.content)
        try:  # those for this machine may round a dilated convolution otherwise
            expected, found = _runs(examiner, both, rounds, file.where, REFERENCE)
        except FileFormatError:  # they do not know all versions of operators
            expected, found = _runs(examiner, both, rounds, file.where, OPTIMIZED)
    sixteen = any(t["type"] == TensorType.INT16 for t in all_tensors(file.model))
    same = functools.partial(_is_same, sixteen=sixteen)
    for one, other in zip(found, expected, strict=True):
        if not all(map(same, one.outputs, other.outputs)):
            raise ExportError(
                f"{file.where} gives other outputs once operators that TensorFlow Lite "
                "Micro lacks are replaced: please report the model."
            )


def _runs(
    examiner: FileExaminer,
    contents: Sequence[bytes],
    rounds: Sequence[Sequence[Array]],
    where: str,
    kernels: str,
) -> list[list[TensorValues]]:
    return [examiner.run(c, rounds, where, kernels=kernels) for c in contents]


def _is_same(one: Array, other: Array, *, sixteen: bool) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind != "f" and one.dtype != np.int16:
        return np.array_equal(one, other)
    mine, wanted = one.astype("f8"), other.astype("f8")
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    allowed = (_ROUNDING_16 if sixteen else _ROUNDING) * largest
    return bool(np.allclose(mine, wanted, rtol=0, atol=allowed, equal_nan=True))


def _unknown_operators(model: Record, layers: Collection[str]) -> list[str]:
    """The operators that TFLM does not know, and the layers that they come from."""
    found: dict[str, None] = {}
    for graph in model["subgraphs"]:
        for operator in graph["operators"]:
            if tflm_method(model["operator_codes"][operator["opcode_index"]]) is None:
                name = operator_name(model, operator)
                found[f"{name}{_origin(graph, operator, layers)}"] = None
    return list(found)


def _growing_loops(model: Record, layers: Collection[str]) -> list[str]:
    """Loops with a state whose shape changes: TFLM knows each shape from the start."""
    found: dict[str, None] = {}
    for graph in model["subgraphs"]:
        for operator in graph["operators"]:
            if operator_code(model, operator) != Operator.WHILE:
                continue
            _, body = pointed_to(operator, "graph")
            inner = model["subgraphs"][body]
            sides = (
                [list(inner["tensors"][n]["shape"]) for n in inner[side]]
                for side in ("inputs", "outputs")
            )
            if len({str(side) for side in sides}) > 1:
                where = _origin(graph, operator, layers)
                found[f"a loop that collects the outputs of its steps{where}"] = None
    return list(found)


def _origin(graph: Record, operator: Record, layers: Collection[str]) -> str:
    """The layer that an operator comes from, or follows, else the tensor it gives."""
    for side, word in (("outputs", "in"), ("inputs", "in or behind")):
        for number in operator[side]:
            name = tensor_name(graph["tensors"][number]) if number >= 0 else ""
            layer = layer_in(re.split(r"[/;:]", name), layers)
            if layer:
                return f" ({word} the layer `{layer}`)"
    name = tensor_name(graph["tensors"][int(operator["outputs"][0])])
    return f" (which gives `{name}`)"
