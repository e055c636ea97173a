"""Weights without their zeros, in the forms that sparse kernels read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from penjing.sparse.sparse_encoding import compress, encode_directly
from penjing.sparse.sparse_rules import DENSE_BLOCK
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.operators import Operator, code_index, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import set_values, values_of

SPARSE_VERSION = 8
"""Version of FULLY_CONNECTED with sparse weights; fast kernels take it for no other."""

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseWeight:
    """A constant of a graph, both by number, that is to be stored without its zeros.

    `in_blocks` are blocks of 1x4 that FULLY_CONNECTED itself reads, with LiteRT's own
    kernel. Else zeros go one by one, given back by an operator DENSIFY, which XNNPACK
    runs once, when the file is loaded.
    """

    graph: int
    tensor: int
    in_blocks: bool = False


def store_sparse(model: Record, weights: Iterable[SparseWeight]) -> None:
    """Store constants of a `.tflite` file without their zeros.

    Whether a runtime computes the same from the new file is not looked at here: some
    are silently wrong, see `penjing.sparse.sparse_graph`. Those `in_blocks` are
    two-dimensional, float32, and read only as weights of FULLY_CONNECTED.
    """
    for weight in weights:
        if weight.in_blocks:
            _store_blocks(model, weight.graph, weight.tensor)
        else:
            shape = model["subgraphs"][weight.graph]["tensors"][weight.tensor]["shape"]
            axis = len(shape) - 1  # the inputs of CONV_2D and FULLY_CONNECTED
            encode_directly(weight.graph, weight.tensor, axis, model)
    share_buffers(model, keep_order=True)


def encode_blocks(values: Array) -> tuple[Array, Record]:
    """The blocks of a matrix that hold values, at least one, and where they stand.

    The matrix is `(outputs, inputs)`, with a multiple of `DENSE_BLOCK` inputs.
    """
    outputs, inputs = values.shape
    blocks = values.reshape(outputs, inputs // DENSE_BLOCK, DENSE_BLOCK)
    left, level = compress(blocks, narrow=False)
    sparsity = Record(
        "SparsityParameters",
        traversal_order=np.array([0, 1, 2], "<i4"),
        block_map=np.array([1], "<i4"),
        dim_metadata=[
            Record("DimensionMetadata", dense_size=outputs),
            level,
            Record("DimensionMetadata", dense_size=DENSE_BLOCK),
        ],
    )
    return left, sparsity


def block_sparsity(values: Array) -> float:
    """The fraction of blocks of 1x4 along the input that hold zeros alone.

    The matrix is `(outputs, inputs)`, as FULLY_CONNECTED stores it; 0 where the inputs
    are no multiple of `DENSE_BLOCK`.
    """
    if values.ndim != 2 or values.shape[1] % DENSE_BLOCK or not values.size:
        return 0.0
    return float((values.reshape(-1, DENSE_BLOCK) == 0).all(axis=1).mean())


def _store_blocks(model: Record, g: int, t: int) -> None:
    graph = model["subgraphs"][g]
    tensor = graph["tensors"][t]
    values, tensor["sparsity"] = encode_blocks(values_of(model, tensor))
    set_values(model, tensor, values)
    for operator in graph["operators"]:
        if operator_code(model, operator) == Operator.FULLY_CONNECTED and (
            operator["inputs"][1] == t
        ):
            operator["opcode_index"] = code_index(
                model, Operator.FULLY_CONNECTED, SPARSE_VERSION
            )
