"""Files of strangers: read, put into one form, every index in them checked."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

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
from penjing.tflite.records import Record, read_records
from penjing.tflite.tensors import TensorType, all_tensors

MAX_RANK = 32  # of NumPy before 2.0
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
_TYPES = frozenset(TensorType)
_GRAPH_FIELDS = {
    "CallOptions": ("subgraph",),
    "CallOnceOptions": ("init_subgraph_index",),
    "IfOptions": ("then_subgraph_index", "else_subgraph_index"),
    "WhileOptions": ("cond_subgraph_index", "body_subgraph_index"),
    "StablehloReduceOptions": ("body_subgraph_index",),
    "StablehloReduceWindowOptions": ("body_subgraph_index",),
    "StablehloSortOptions": ("comparator_subgraph_index",),
    "StablehloScatterOptions": ("update_computation_subgraph_index",),
    "StablehloWhileOptions": ("cond_subgraph_index", "body_subgraph_index"),
    "StablehloCaseOptions": ("branch_subgraph_indices",),
    "StablehloCustomCallOptions": ("called_computations",),
    "StableHLOCompositeOptions": ("decomposition_subgraph_index",),
}


def read_litert(path: str | os.PathLike[str]) -> bytes:
    """Read a `.tflite` file and check that it is one by its mark.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        FileFormatError: If it is missing, too large or of another type.
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

    Operators that are damaged, fields of a newer format and weights in other files,
    all of which `load_records` refuses, are not looked at. Whether the bytes of a
    tensor fit its shape and type is left to the caller.

    Args:
        data: Its bytes.
        where: What it is called in messages.

    Returns:
        The table of the model, with its buffers, and graphs that have tensors alone.

    Raises:
        FileFormatError: If they are corrupt.
    """
    model = read_records(data, where, _STORED)
    _Check(model, data, where).stored()
    return model


def load_records(data: bytes, where: str) -> Record:
    """Read a `.tflite` file and check that it is whole.

    Args:
        data: Its bytes.
        where: What it is called in messages.

    Returns:
        The table of the model, all data inside it: bytes that large files keep behind
        the tables are moved into their buffers.

    Raises:
        FileFormatError: If the file is corrupt, keeps data in other files, or holds
            what this version does not know.
    """
    model = read_records(data, where)
    _Check(model, data, where).run()
    return model


def graph_references(operator: Record) -> Iterator[int]:
    """The graphs that an operator runs."""
    for slot in ("builtin_options", "builtin_options2"):
        options = operator[slot]
        for name in _GRAPH_FIELDS.get(options.kind, ()) if options else ():
            yield from map(int, np.atleast_1d(options[name]))


class _Check:
    def __init__(self, model: Record, data: bytes, where: str) -> None:
        self._model = model
        self._data = data
        self._where = where

    def run(self) -> None:
        model = self._model
        if "external_buffers" in model or "external_buffer_groups" in model:
            raise FileFormatError(
                f"{self._where} keeps weights in other files, which penjing does not "
                "read. Convert the model into one file."
            )
        self._move_buffers_in()
        buffers = len(model["buffers"])
        for entry in model["metadata"]:
            self._index(entry["buffer"], buffers, "buffer")
        self._indices(model["metadata_buffer"], buffers, "buffer")
        for graph in model["subgraphs"]:
            self._graph(graph)
        for signature in model["signature_defs"]:
            self._index(signature["subgraph_index"], len(model["subgraphs"]), "graph")
            graph = model["subgraphs"][signature["subgraph_index"]]
            for entry in (*signature["inputs"], *signature["outputs"]):
                self._index(entry["tensor_index"], len(graph["tensors"]), "tensor")

    def stored(self) -> None:
        self._move_buffers_in()
        buffers = self._model["buffers"]
        for tensor in all_tensors(self._model):
            if tensor["buffer"] >= len(buffers):
                raise self._corrupt(
                    f"a tensor uses buffer {tensor['buffer']:,} of {len(buffers):,}"
                )

    def _move_buffers_in(self) -> None:
        buffers = self._model["buffers"]
        for buffer in buffers:
            self._move_in(buffer, "data", "offset", "size")
        # Equal ones may share their bytes; hostile ones do it again and again.
        total = sum(len(buffer["data"]) for buffer in buffers)
        if total > READS_FLOOR + READS_PER_BYTE * len(self._data):
            raise self._corrupt("its buffers overlap")

    def _graph(self, graph: Record) -> None:
        tensors = len(graph["tensors"])
        for tensor in graph["tensors"]:
            self._tensor(tensor, tensors)
        for name in ("inputs", "outputs"):
            self._indices(graph[name], tensors, "tensor", lowest=-1)
        for operator in graph["operators"]:
            codes = len(self._model["operator_codes"])
            self._index(operator["opcode_index"], codes, "operator code")
            for name in ("inputs", "outputs", "intermediates"):
                self._indices(operator[name], tensors, "tensor", lowest=-1)
            for number in graph_references(operator):
                self._index(number, len(self._model["subgraphs"]), "graph")
            self._move_in(
                operator,
                "custom_options",
                "large_custom_options_offset",
                "large_custom_options_size",
            )

    def _tensor(self, tensor: Record, tensors: int) -> None:
        self._index(tensor["buffer"], len(self._model["buffers"]), "buffer")
        shape = [int(size) for size in tensor["shape"]]
        if len(shape) > MAX_RANK or min(shape, default=0) < 0:
            raise self._corrupt(f"a tensor has the shape {shape[:MAX_RANK]}")
        if tensor["type"] not in _TYPES:
            raise self._corrupt(f"a tensor is of the unknown type {tensor['type']}")
        details = tensor["quantization"] and tensor["quantization"]["details"]
        if details and details.kind in (
            "BlockwiseQuantization",
            "MultiAxisQuantization",
        ):
            self._indices((details["scales"],), tensors, "tensor")
            self._indices((details["zero_points"],), tensors, "tensor", lowest=-1)
        data = self._model["buffers"][tensor["buffer"]]["data"]
        kind = TensorType(tensor["type"])
        if not len(data) or tensor["sparsity"] or not kind.bits:
            return
        if len(data) != -(-math.prod(shape) * kind.bits // 8):
            raise self._corrupt(
                f"a tensor of the shape {shape} and type {kind.dtype} has "
                f"{len(data):,} bytes"
            )

    def _move_in(self, record: Record, field: str, offset: str, size: str) -> None:
        start, length = record[offset], record[size]
        record.drop(offset, size)
        if start <= 1:
            return
        if start + length > len(self._data):
            raise self._corrupt("it points behind its own end")
        record[field] = np.frombuffer(self._data, "u1", length, start)

    def _indices(
        self, values: Iterable[Any], count: int, what: str, lowest: int = 0
    ) -> None:
        array = np.asarray(values, "i8")
        if array.size and (array.min() < lowest or array.max() >= count):
            raise self._corrupt(
                f"it uses {what} {array.min()} to {array.max()} of {count:,}"
            )

    def _index(self, value: int, count: int, what: str) -> None:
        self._indices((value,), count, what)

    def _corrupt(self, reason: str) -> FileFormatError:
        return corrupt(self._where, reason)
