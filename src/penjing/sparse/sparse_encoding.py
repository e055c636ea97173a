"""Constants without their zeros, in LiteRT's sparse encoding.

An operator DENSIFY gives the dense tensor to whatever read the constant. Kernels that
read sparse tensors themselves are not relied on: some fail, others are silently wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from penjing.tflite.graph_edits import add_sizes, add_tensor, read_instead
from penjing.tflite.operators import Operator, code_index
from penjing.tflite.records import Edit, Record
from penjing.tflite.tensors import TensorType, is_plain, set_values, values_of

_CSR = 1
_LEAST_BYTES = 256  # A new operator, tensor and description cost about this much.
_VECTORS = (("Uint8Vector", 2**8), ("Uint16Vector", 2**16), ("Int32Vector", 2**31))
_WIDTHS = {"Uint8Vector": 1, "Uint16Vector": 2, "Int32Vector": 4}

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
    per_value = values.itemsize + _WIDTHS[_vector_for(length - 1)]
    return left * per_value + int(segments) * _WIDTHS[_vector_for(left)]


def encode(values: Array, axis: int) -> tuple[Array, Record]:
    """Take the zeros out of an array.

    Args:
        values: Array of any shape.
        axis: The axis along which values get indices; the others are dense.

    Returns:
        The values that are left, at least one, and the table that says where they
        stand. A tensor without any bytes would be no constant to a runtime.
    """
    others = [n for n in range(values.ndim) if n != axis]
    rows = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    is_value = rows != 0
    is_value[:1, :1] |= not is_value.any()
    segments = np.concatenate([[0], np.cumsum(is_value.sum(axis=1))])
    sizes = [values.shape[n] for n in others]
    metadata = [Record("DimensionMetadata", dense_size=size) for size in sizes]
    metadata.append(
        Record(
            "DimensionMetadata",
            format=_CSR,
            array_segments=_vector(segments),
            array_indices=_vector(np.nonzero(is_value)[1], rows.shape[1] - 1),
        )
    )
    sparsity = Record(
        "SparsityParameters",
        traversal_order=np.array([*others, axis], "<i4"),
        dim_metadata=metadata,
    )
    return rows[is_value], sparsity


def encode_directly(g: int, t: int, axis: int, model: Record) -> None:
    """Make a constant sparse; an operator DENSIFY gives its values to its readers.

    Args:
        g: Number of the graph.
        t: Number of the tensor in it.
        axis: The axis along which values get indices.
        model: Changed in place.
    """
    graph = model["subgraphs"][g]
    sparse = graph["tensors"][t]
    dense = _add_computed(graph, sparse)
    _make_sparse(model, sparse, axis)
    read_instead(graph, t, dense)
    _put_first(model, graph, Operator.DENSIFY, Record("DensifyOptions"), [t], dense)


def _vector_for(largest: int) -> str:
    return next(name for name, bound in _VECTORS if largest < bound)


def _vector(numbers: Array, largest: int | None = None) -> Record:
    top = int(numbers.max(initial=0)) if largest is None else largest
    kind = _vector_for(top)
    dtype = "<i4" if kind == "Int32Vector" else f"<u{_WIDTHS[kind]}"
    return Record(kind, values=numbers.astype(dtype))


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
    operator = Record(
        "Operator",
        opcode_index=code_index(model, code),
        inputs=np.array(inputs, "<i4"),
        outputs=np.array([output], "<i4"),
        builtin_options=options,
    )
    graph["operators"] = [operator, *graph["operators"]]
