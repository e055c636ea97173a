"""The same network in a plainer file, without sparse tensors."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.sparse.sparse_weights import SPARSE_VERSION
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.graph_edits import read_instead
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, number_of, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    all_tensors,
    data_of,
    set_values,
)

_MAX_VALUES = 2**29
_SPARSE_DENSE_LAYER = (Operator.FULLY_CONNECTED, SPARSE_VERSION)
_CSR = 1

Array = np.ndarray[Any, Any]


def dense_twin(content: bytes, where: str) -> bytes:
    """Write the sparse tensors of a file as dense ones.

    The twin computes the same by definition of the format, with the dense kernels that
    every runtime has: what a runtime makes of the sparse file can be compared with it.
    A file without sparse tensors is written anew.
    """
    file = EditedFile(content, where)
    file.edit(functools.partial(_densify, where=where))
    return file.content


def _densify(model: Record, where: str) -> None:
    sparse = [tensor for tensor in all_tensors(model) if tensor["sparsity"]]
    values = sum(np.prod(tensor["shape"], dtype="f8") for tensor in sparse)
    if values > _MAX_VALUES:
        raise FileFormatError(
            f"The sparse tensors of {where} have {values:,.0f} values, more than the "
            f"{_MAX_VALUES:,} that are unpacked."
        )
    for tensor in sparse:
        set_values(model, tensor, _decoded(model, tensor, where))
        tensor.drop("sparsity")
    for code in model["operator_codes"] if sparse else ():
        # By its version LiteRT would keep the dense layer from faster kernels.
        if (number_of(code), code["version"]) == _SPARSE_DENSE_LAYER:
            code["version"] = 1
    for graph in model["subgraphs"]:
        _remove_densify(model, graph)
    share_buffers(model, keep_order=True)


def has_sparse_tensors(content: bytes, where: str) -> bool:
    """Whether a file holds tensors in sparse encoding."""
    model = load_records(content, where)
    return any(tensor["sparsity"] for tensor in all_tensors(model))


def _remove_densify(model: Record, graph: Record) -> None:
    """Let what reads the output of a DENSIFY read its input."""
    kept = []
    outputs = {int(number) for number in graph["outputs"]}
    for operator in graph["operators"]:
        is_densify = operator_code(model, operator) == Operator.DENSIFY
        is_whole = len(operator["inputs"]) and len(operator["outputs"])
        if not (is_densify and is_whole) or int(operator["outputs"][0]) in outputs:
            kept.append(operator)
            continue
        read_instead(graph, int(operator["outputs"][0]), int(operator["inputs"][0]))
    graph["operators"] = kept


def _decoded(model: Record, tensor: Record, where: str) -> Array:
    """The values of a sparse tensor in its own shape.

    The format stores the positions of values axis by axis, in the order of
    `traversal_order`. Axes beyond the rank of the tensor run within blocks, along the
    axis that `block_map` names.
    """
    kind = TensorType(tensor["type"])
    if kind.bits < 8:
        raise FileFormatError(
            f"{where} holds a sparse tensor of the type {kind.dtype}."
        )
    shape = [int(size) for size in tensor["shape"]]
    values = np.ascontiguousarray(data_of(model, tensor)).view(kind.numpy_type)
    sparsity = tensor["sparsity"]
    try:
        sizes = _level_sizes(sparsity, shape)
        places = _places(sparsity, sizes, len(values))
        dense = np.zeros(shape, kind.numpy_type)
        dense[tuple(_joined(sparsity, sizes, places, len(shape)))] = values
    except (LookupError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise FileFormatError(
            f"{where} is corrupt: the description of its sparse tensor "
            f"{bytes(tensor['name'] or b'')!r} does not fit its values ({error})."
        ) from error
    return dense


def _level_sizes(sparsity: Record, shape: list[int]) -> list[int]:
    """Size of each axis of the format: those of the blocks come last."""
    if np.prod(shape, dtype="f8") > _MAX_VALUES:
        raise ValueError(f"{shape} is too large")
    order = [int(axis) for axis in sparsity["traversal_order"]]
    levels = dict(zip(order, sparsity["dim_metadata"], strict=True))
    if sorted(levels) != list(range(len(order))) or len(order) < len(shape):
        raise ValueError(f"its traversal order is {order}")
    sizes = [*shape, *(0 for _ in order[len(shape) :])]
    for block, axis in enumerate(sparsity["block_map"]):
        size = int(levels[len(shape) + block]["dense_size"])
        if size < 1 or sizes[axis] % size:
            raise ValueError(f"blocks of {size} on {sizes[axis]} values")
        sizes[len(shape) + block] = size
        sizes[axis] //= size
    return sizes


def _places(sparsity: Record, sizes: list[int], count: int) -> dict[int, Array]:
    """For each axis of the format the index of each stored value."""
    places: dict[int, Array] = {}
    rows = 1
    for axis, level in zip(
        sparsity["traversal_order"], sparsity["dim_metadata"], strict=True
    ):
        if level["format"] == _CSR:
            segments = np.asarray(level["array_segments"]["values"], "i8")
            indices = np.asarray(level["array_indices"]["values"], "i8")
            lengths = np.diff(segments)
            if len(lengths) != rows or (lengths < 0).any() or segments[0] != 0:
                raise ValueError(f"{len(lengths)} segments for {rows} rows")
            indices = indices[: segments[-1]]
            if len(indices) > math.prod(sizes):
                raise ValueError(f"{len(indices)} places for {math.prod(sizes)} values")
            if ((indices < 0) | (indices >= sizes[axis])).any():
                raise ValueError(f"an index beyond {sizes[axis]}")
        elif rows * sizes[axis] > math.prod(sizes):
            raise ValueError(f"more places than its {math.prod(sizes)} values")
        else:
            lengths = np.full(rows, sizes[axis])
            indices = np.tile(np.arange(sizes[axis]), rows)
        places = {a: np.repeat(place, lengths) for a, place in places.items()}
        places[int(axis)] = indices
        rows = len(indices)
    if rows != count:
        raise ValueError(f"{rows} places for {count} values")
    return places


def _joined(
    sparsity: Record, sizes: list[int], places: dict[int, Array], rank: int
) -> list[Array]:
    """Indices within the tensor, from those of blocks and within blocks."""
    joined = [places[axis] for axis in range(rank)]
    for block, axis in enumerate(sparsity["block_map"]):
        inner = rank + block
        joined[axis] = joined[axis] * sizes[inner] + places[inner]
    return joined
