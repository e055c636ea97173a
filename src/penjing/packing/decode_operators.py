"""DECODE in front of what reads a constant, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.packing.forms import Encoded
from penjing.packing.packable import Constant
from penjing.tflite.decode_records import DECODE, decoded, is_decode
from penjing.tflite.flat_buffers import corrupt
from penjing.tflite.graph_edits import add_tensor
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, data_of, is_plain, set_values


def insert_decoders(
    model: Record, constants: Sequence[Constant], encoded: Sequence[Encoded | None]
) -> None:
    """Encode constants, and decode them before each operator that reads them.

    Each reader has a DECODE of its own, right before it, for all that it reads: an
    application may give decoded tensors a memory of their own, in which they live until
    the next operator has run. What is decoded is stored once.

    Args:
        model: Changed in place.
        constants: Of this model.
        encoded: A form for each, or None for those that stay as they are.
    """
    by_graph: dict[int, dict[int, Encoded]] = {}
    for constant, form in zip(constants, encoded, strict=True):
        if form is not None:
            for graph, number in constant.places:
                by_graph.setdefault(graph, {})[number] = form
    for number, forms in by_graph.items():
        _insert(model, model["subgraphs"][number], forms)


def _insert(model: Record, graph: Record, forms: dict[int, Encoded]) -> None:
    sources = {number: graph["tensors"][number].copy() for number in forms}
    vectors: dict[bytes, int] = {}
    for number, form in forms.items():
        graph["tensors"][number] = _vector(model, form.data)
        if form.ancillary not in vectors:
            vector = _vector(model, form.ancillary)
            vectors[form.ancillary] = add_tensor(graph, vector)
    operators = []
    for operator in graph["operators"]:
        inputs = operator["inputs"]
        read = [n for n in dict.fromkeys(inputs.tolist()) if n in forms]
        outputs = []
        for number in read:
            tensor = sources[number].copy()
            tensor.drop("buffer")
            outputs.append(add_tensor(graph, tensor))
            inputs = np.where(inputs == number, outputs[-1], inputs).astype("<i4")
        operator["inputs"] = inputs
        if read:
            pairs = [[number, vectors[forms[number].ancillary]] for number in read]
            operators.append(_decode(model, sum(pairs, []), outputs))
        operators.append(operator)
    graph["operators"] = operators


def _vector(model: Record, data: bytes) -> Record:
    tensor = Record("Tensor", shape=np.array([len(data)], "<i4"), type=TensorType.UINT8)
    set_values(model, tensor, np.frombuffer(data, "u1"))
    return tensor


def _decode(model: Record, inputs: list[int], outputs: list[int]) -> Record:
    return Record(
        "Operator",
        opcode_index=_decode_code(model),
        inputs=np.array(inputs, "<i4"),
        outputs=np.array(outputs, "<i4"),
    )


def _decode_code(model: Record) -> int:
    codes = model["operator_codes"]
    for index, code in enumerate(codes):
        if code["custom_code"] == DECODE:
            return index
    code = Record(
        "OperatorCode",
        deprecated_builtin_code=Operator.CUSTOM,
        builtin_code=Operator.CUSTOM,
        custom_code=DECODE,
        version=1,
    )
    model["operator_codes"] = [*codes, code]
    return len(codes)


def decode_constants(model: Record, where: str) -> None:
    """Make constants of what operators DECODE give, and take these out, in place."""
    for graph in model["subgraphs"]:
        kept = []
        for operator in graph["operators"]:
            if is_decode(model, operator):
                _decode_outputs(model, graph, operator, where)
            else:
                kept.append(operator)
        graph["operators"] = kept


def _decode_outputs(model: Record, graph: Record, operator: Record, where: str) -> None:
    inputs, outputs = operator["inputs"].tolist(), operator["outputs"].tolist()
    if len(inputs) != 2 * len(outputs) or min(inputs + outputs, default=-1) < 0:
        raise corrupt(where, f"a {DECODE.decode()} has {len(inputs)} inputs")
    for place, number in enumerate(outputs):
        pair = [graph["tensors"][n] for n in inputs[2 * place : 2 * place + 2]]
        if not all(is_plain(model, tensor) for tensor in pair):
            raise corrupt(where, f"a {DECODE.decode()} reads what is no constant")
        data, ancillary = (_bytes(model, tensor) for tensor in pair)
        tensor = graph["tensors"][number]
        set_values(model, tensor, decoded(data, ancillary, tensor, where))


def _bytes(model: Record, tensor: Record) -> bytes:
    data: np.ndarray[Any, Any] = data_of(model, tensor)
    return bytes(data.tobytes())
