"""Files of strangers: read, put into one form, every index in them checked."""

from __future__ import annotations

import math
import os

import numpy as np

from penjing.errors import FileFormatError
from penjing.files import check_file, read_bytes
from penjing.tflite.flat_buffers import (
    MAX_FILE_BYTES,
    READS_FLOOR,
    READS_PER_BYTE,
    check_mark,
    corrupt,
)
from penjing.tflite.records import Record, pointers, read_records
from penjing.tflite.tensors import TensorType, all_tensors, data_of, tensor_name

MAX_RANK = 32  # of NumPy before 2.0
# What is pointed to by number -> the list that it stands in, and what it is called.
_LISTS = {
    "buffer": ("buffers", "buffer"),
    "code": ("operator_codes", "operator code"),
    "graph": ("subgraphs", "graph"),
}
# What it takes to know the tensors that a file stores, and nothing else.
_STORED = {
    "Model": ("subgraphs", "buffers"),
    "SubGraph": ("tensors",),
    "Tensor": ("shape", "type", "buffer", "name", "quantization", "sparsity"),
    "QuantizationParameters": ("scale", "zero_point", "quantized_dimension"),
    "SparsityParameters": ("dim_metadata",),
    "DimensionMetadata": ("array_segments", "array_indices"),
    "Int32Vector": ("values",),
    "Uint16Vector": ("values",),
    "Uint8Vector": ("values",),
    "Buffer": ("data", "offset", "size"),
}
# What it takes to follow tensors through the operators that join them.
_GRAPHS = {
    "Model": ("subgraphs", "operator_codes"),
    "OperatorCode": ("deprecated_builtin_code", "version", "builtin_code"),
    "SubGraph": ("tensors", "inputs", "outputs", "operators"),
    "Tensor": ("shape", "type", "name", "quantization", "shape_signature"),
    "QuantizationParameters": ("scale",),
    "Operator": ("opcode_index", "inputs", "outputs", "builtin_options"),
    "ConcatenationOptions": ("axis",),
    "PackOptions": ("axis",),
}
_TYPES = frozenset(TensorType)


def read_litert(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a `.tflite` file and check that it is one by its mark.

    One that is missing, too large or of another type is a FileFormatError.
    """
    size = check_file(path).stat().st_size
    if size > MAX_FILE_BYTES:
        raise FileFormatError(
            f"{path} has {size:,} bytes; a .tflite file has at most {MAX_FILE_BYTES:,}."
        )
    content = read_bytes(path)
    check_mark(content, str(path))
    return content


def load_tensors(data: bytes, where: str) -> Record:
    """Read the tensors of a `.tflite` file, whatever else it holds.

    Operators that are damaged, fields of a newer format and weights in other files, all
    of which `load_records` refuses, are not looked at. Gives the table of the model,
    with its buffers, and graphs that have tensors alone. `where` is what messages call
    the file.
    """
    model = read_records(data, where, _STORED)
    _Check(model, data, where).stored()
    return model


def load_graphs(data: bytes, where: str) -> Record:
    """Read the graphs of a converted `.tflite` file, without its data.

    Of the options of operators, those alone are read that say how tensors are joined.
    `where` is what messages call the file.
    """
    return read_records(data, where, _GRAPHS)


def load_records(data: bytes, where: str) -> Record:
    """Read a `.tflite` file and check that it is whole; messages call it `where`.

    Gives the table of the model, all data inside it: bytes that large files keep behind
    the tables are moved into their buffers. A file that is corrupt, keeps data in other
    files, or holds what this version does not know is a FileFormatError.
    """
    model = read_records(data, where)
    _Check(model, data, where).whole()
    return model


class _Check:
    def __init__(self, model: Record, data: bytes, where: str) -> None:
        self._model = model
        self._data = data
        self._where = where
        self._held: dict[str, int] = {}  # bytes of all buffers, of options of operators

    def whole(self) -> None:
        model = self._model
        if "external_buffers" in model or "external_buffer_groups" in model:
            raise FileFormatError(
                f"{self._where} keeps weights in other files, which penjing does not "
                "read. Convert the model into one file."
            )
        if not model["subgraphs"]:
            raise self._corrupt("it has no graph")
        self._buffers()
        for target, (name, word) in _LISTS.items():
            self._pointers(model, target, len(model[name]), word)
        for graph in model["subgraphs"]:
            self._pointers(graph, "tensor", len(graph["tensors"]), "tensor")
            for operator in graph["operators"]:
                self._move_in(operator, "custom_options", "large_custom_options_")
                self._bound("operators", len(operator["custom_options"]))
        for signature in model["signature_defs"]:
            graph = model["subgraphs"][signature["subgraph_index"]]
            self._pointers(signature, "tensor", len(graph["tensors"]), "tensor")
        for tensor in all_tensors(model):
            self._tensor(tensor)

    def stored(self) -> None:
        self._buffers()
        self._pointers(self._model, "buffer", len(self._model["buffers"]), "buffer")
        for tensor in all_tensors(self._model):
            if len(data_of(self._model, tensor)):
                self._tensor(tensor)

    def _buffers(self) -> None:
        buffers = self._model["buffers"]
        for buffer in buffers:
            self._move_in(buffer, "data", "")
            self._bound("buffers", len(buffer["data"]))

    def _bound(self, kind: str, size: int) -> None:
        """Equal ones may share their bytes; hostile ones do it again and again."""
        self._held[kind] = self._held.get(kind, 0) + size
        if self._held[kind] > READS_FLOOR + READS_PER_BYTE * len(self._data):
            raise self._corrupt(f"its {kind} overlap")

    def _move_in(self, record: Record, field: str, prefix: str) -> None:
        start, length = record[f"{prefix}offset"], record[f"{prefix}size"]
        record.drop(f"{prefix}offset", f"{prefix}size")
        if start <= 1:
            return
        if start + length > len(self._data):
            raise self._corrupt("it points behind its own end")
        record[field] = np.frombuffer(self._data, "u1", length, start)

    def _pointers(self, record: Record, target: str, count: int, word: str) -> None:
        for holder, field in pointers(record, target):
            numbers = np.asarray(holder[field.name], "i8")
            lowest = -1 if field.may_be_none else 0
            if numbers.size and (numbers.min() < lowest or numbers.max() >= count):
                ends = sorted({int(numbers.min()), int(numbers.max())})
                span = " to ".join(f"{number:,}" for number in ends)
                raise self._corrupt(f"it uses {word} {span} of {count:,}")

    def _tensor(self, tensor: Record) -> None:
        name = f"the tensor {tensor_name(tensor)!r}"
        shape = tuple(int(size) for size in tensor["shape"])
        if len(shape) > MAX_RANK or min(shape, default=0) < 0:
            raise self._corrupt(f"{name} has the shape {shape[:MAX_RANK]}")
        if tensor["type"] not in _TYPES:
            raise self._corrupt(f"{name} is of the unknown type {tensor['type']}")
        data, bits = data_of(self._model, tensor), TensorType(tensor["type"]).bits
        if not len(data) or not bits:
            return
        size = math.prod(shape)
        count = 8 * len(data) // bits if tensor["sparsity"] else size
        if len(data) != -(-count * bits // 8):
            raise self._corrupt(
                f"{name} has {count:,} values of {bits} bits, but {len(data):,} bytes"
            )
        if 8 * (len(data) - 1) // bits >= size:
            raise self._corrupt(f"{name} holds more than its shape")

    def _corrupt(self, reason: str) -> FileFormatError:
        return corrupt(self._where, reason)
