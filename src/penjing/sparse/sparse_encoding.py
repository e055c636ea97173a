"""Constants without their zeros, in LiteRT's sparse encoding.

An operator DENSIFY gives the dense tensor to whatever read the constant. Kernels that
read sparse tensors themselves are not relied on: some fail, others are silently wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from penjing.tflite.graph_edits import (
    add_sizes,
    add_tensor,
    make_operator,
    read_instead,
)
from penjing.tflite.operators import Operator
from penjing.tflite.records import Edit, Record
from penjing.tflite.tensors import TensorType, is_plain, set_values, values_of

_CSR = 1
_LEAST_BYTES = 256  # A new operator, tensor and description cost about this much.
_VECTORS = (("Uint8Vector", "<u1"), ("Uint16Vector", "<u2"), ("Int32Vector", "<i4"))

Array = np.ndarray[Any, Any]


def direct_edits(model: Record) -> list[Edit]:
    """DENSIFY before what reads a constant, one edit for each that gets smaller.

    Delegates read such a constant only once where they know the operator; where they
    do not, the file fails to load.
    """
    edits: list[Edit] = []
    for place, values in _candidates(model):
        axis = min(range(values.ndim), key=lambda axis: encoded_size(values, axis))
        if encoded_size(values, axis) + _LEAST_BYTES < values.nbytes:
            edits.append(functools.partial(encode_directly, *place, axis))
    return edits


def reshaped_edits(model: Record) -> list[Edit]:
    """DENSIFY and RESHAPE before what reads a constant, one edit for each.

    Delegates then leave the reading operator to the runtime's own kernels, which take
    computed weights. And the sparse tensor may have any shape: rows of up to 256
    values, whose indices take a byte.
    """
    edits: list[Edit] = []
    for place, values in _candidates(model):
        lengths = [n for n in range(1, 2**16 + 1) if values.size % n == 0]
        rows = [values.reshape(-1, n) for n in lengths]
        best = min(rows, key=lambda array: encoded_size(array, 1))
        if encoded_size(best, 1) + 2 * _LEAST_BYTES < values.nbytes:
            edits.append(functools.partial(_encode_reshaped, *place, best.shape[1]))
    return edits


def _candidates(model: Record) -> Iterator[tuple[tuple[int, int], Array]]:
    for g, graph in enumerate(model["subgraphs"]):
        read = {int(n) for op in graph["operators"] for n in op["inputs"]}
        kept = {int(n) for n in (*graph["inputs"], *graph["outputs"])}
        for t, tensor in enumerate(graph["tensors"]):
            if t in read - kept and _may_be_sparse(model, tensor):
                yield (g, t), values_of(model, tensor)


def _may_be_sparse(model: Record, tensor: Record) -> bool:
    points = tensor["quantization"] and tensor["quantization"]["zero_point"]
    return (
        tensor["type"] in (TensorType.FLOAT32, TensorType.INT8)
        and len(tensor["shape"]) >= 2
        and is_plain(model, tensor)
        and not np.any(points if points is not None else 0)
    )


def encoded_size(values: Array, axis: int) -> int:
    """Bytes of values, indices and segments of a constant."""
    length = values.shape[axis]
    left = max(1, int(np.count_nonzero(values)))
    segments = values.size // max(length, 1) + 1
    per_value = values.itemsize + _vector_for(length - 1)[1].itemsize
    return left * per_value + int(segments) * _vector_for(left)[1].itemsize


def encode(values: Array, axis: int) -> tuple[Array, Record]:
    """The values that are left of an array, and the table that says where they stand.

    They get indices along the axis; the others are dense.
    """
    others = [n for n in range(values.ndim) if n != axis]
    rows = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis], 1)
    left, level = compress(rows)
    dense = [Record("DimensionMetadata", dense_size=values.shape[n]) for n in others]
    sparsity = Record(
        "SparsityParameters",
        traversal_order=np.array([*others, axis], "<i4"),
        dim_metadata=[*dense, level],
    )
    return left, sparsity


def compress(blocks: Array, *, narrow: bool = True) -> tuple[Array, Record]:
    """The blocks that hold values, at least one, and the level of a table for them.

    Blocks are `(rows, places, values of a block)`. If `narrow`, indices take as few
    bytes as they can.
    """
    is_value = (blocks != 0).any(axis=2)
    is_value[:1, :1] |= not is_value.any()  # without any bytes it is no constant
    segments = np.concatenate([[0], np.cumsum(is_value.sum(axis=1))])
    largest = 0 if narrow else 2**31 - 1
    level = Record(
        "DimensionMetadata",
        format=_CSR,
        array_segments=_vector(segments, max(largest, int(segments[-1]))),
        array_indices=_vector(
            np.nonzero(is_value)[1], max(largest, blocks.shape[1] - 1)
        ),
    )
    return blocks[is_value].reshape(-1), level


def encode_directly(g: int, t: int, axis: int, model: Record) -> None:
    """Make a constant sparse, with indices along an axis; DENSIFY feeds its readers."""
    graph = model["subgraphs"][g]
    sparse = graph["tensors"][t]
    dense = _add_computed(graph, sparse)
    _make_sparse(model, sparse, axis)
    read_instead(graph, t, dense)
    _put_first(model, graph, Operator.DENSIFY, Record("DensifyOptions"), [t], dense)


def _vector_for(largest: int) -> tuple[str, np.dtype[Any]]:
    kinds = ((name, np.dtype(code)) for name, code in _VECTORS)
    return next((name, kind) for name, kind in kinds if largest <= np.iinfo(kind).max)


def _vector(numbers: Array, largest: int) -> Record:
    name, kind = _vector_for(largest)
    return Record(name, values=numbers.astype(kind))


def _encode_reshaped(g: int, t: int, length: int, model: Record) -> None:
    graph = model["subgraphs"][g]
    sparse = graph["tensors"][t]
    shape = sparse["shape"]
    restored = _add_computed(graph, sparse)
    sparse["shape"] = np.array([values_of(model, sparse).size // length, length], "<i4")
    sparse.drop("quantization", "shape_signature")
    dense = _add_computed(graph, sparse)
    wanted = add_sizes(model, graph, shape)
    _make_sparse(model, sparse, axis=1)
    read_instead(graph, t, restored)
    options = Record("ReshapeOptions")
    _put_first(model, graph, Operator.RESHAPE, options, [dense, wanted], restored)
    _put_first(model, graph, Operator.DENSIFY, Record("DensifyOptions"), [t], dense)


def _add_computed(graph: Record, like: Record) -> int:
    """Add a tensor that is computed."""
    tensor = like.copy()
    tensor["buffer"] = 0
    return add_tensor(graph, tensor)


def _make_sparse(model: Record, tensor: Record, axis: int) -> None:
    values, tensor["sparsity"] = encode(values_of(model, tensor), axis)
    set_values(model, tensor, values)


def _put_first(
    model: Record,
    graph: Record,
    code: Operator,
    options: Record,
    inputs: list[int],
    output: int,
) -> None:
    operator = make_operator(model, code, inputs, output, options=options)
    graph["operators"] = [operator, *graph["operators"]]
