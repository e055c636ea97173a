"""DECODE in front of what reads a constant, and the way back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.files import EXPANSION_FLOOR, MAX_EXPANSION, limit, raise_limits
from penjing.packing.forms import Encoded
from penjing.packing.packable import Constant
from penjing.tflite.decode_records import DECODE, Form, decoded, is_decode, layout_of
from penjing.tflite.flat_buffers import corrupt
from penjing.tflite.graph_edits import add_tensor
from penjing.tflite.huffman_tables import MAX_LEVELS
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
    """Make constants of what operators DECODE give, and take these out, in place.

    What several of them decode is decoded and stored once. A file whose constants are
    far more than its own bytes is a FileFormatError: it is a bomb, not a network.
    """
    decoding = _Decoding(model, where)
    for graph in model["subgraphs"]:
        kept = []
        for operator in graph["operators"]:
            if is_decode(model, operator):
                decoding.decode_outputs(graph, operator)
            else:
                kept.append(operator)
        graph["operators"] = kept


class _Decoding:
    """Decodes what stands for constants, each once, up to what a file may hold."""

    def __init__(self, model: Record, where: str) -> None:
        self._model, self._where = model, where
        size = sum(len(buffer["data"]) for buffer in model["buffers"])
        self._most = limit(max(EXPANSION_FLOOR, MAX_EXPANSION * size))
        self._decoded_bytes = 0
        self._buffers: dict[tuple[object, ...], int] = {}

    def decode_outputs(self, graph: Record, operator: Record) -> None:
        inputs, outputs = operator["inputs"].tolist(), operator["outputs"].tolist()
        if len(inputs) != 2 * len(outputs) or min(inputs + outputs, default=-1) < 0:
            raise self._corrupt(f"has {len(inputs)} inputs")
        for place, number in enumerate(outputs):
            pair = [graph["tensors"][n] for n in inputs[2 * place : 2 * place + 2]]
            if not all(is_plain(self._model, tensor) for tensor in pair):
                raise self._corrupt("reads what is no constant")
            self._decode(graph["tensors"][number], pair)

    def _decode(self, tensor: Record, pair: list[Record]) -> None:
        key = (*(int(source["buffer"]) for source in pair), _layout_key(tensor))
        if key not in self._buffers:
            data, ancillary = (_bytes(self._model, source) for source in pair)
            levels = MAX_LEVELS if ancillary[:1] == bytes([Form.HUFFMAN]) else 1
            self._count(tensor, levels * (len(data) + len(ancillary)))
            values = decoded(data, ancillary, tensor, self._where)
            set_values(self._model, tensor, values)
            self._buffers[key] = tensor["buffer"]
        tensor["buffer"] = self._buffers[key]

    def _count(self, tensor: Record, read: int) -> None:
        """Count what is decoded and what is read for it."""
        self._decoded_bytes += read
        layout = layout_of(tensor)  # None is refused where it is decoded
        if layout is not None:
            self._decoded_bytes += layout.count * np.dtype(layout.stored_as).itemsize
        if self._decoded_bytes > self._most:
            raise FileFormatError(
                f"The constants of {self._where} take more than {self._most:,} bytes "
                "once they are decoded, which is more than a file of its size may "
                f"hold: it is corrupt, or a bomb. {raise_limits()}"
            )

    def _corrupt(self, reason: str) -> Exception:
        return corrupt(self._where, f"a {DECODE.decode()} {reason}")


def _layout_key(tensor: Record) -> tuple[object, ...]:
    """What of a tensor decides its numbers."""
    layout = layout_of(tensor)
    if layout is None:
        return ()
    parts = dataclasses.asdict(layout)
    return (tuple(parts.pop("zeros").tolist()), *parts.values())


def _bytes(model: Record, tensor: Record) -> bytes:
    data: np.ndarray[Any, Any] = data_of(model, tensor)
    return bytes(data.tobytes())
