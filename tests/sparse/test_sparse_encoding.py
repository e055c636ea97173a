"""Constants without their zeros hold the same values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penjing.sparse import sparse_encoding

pytestmark = pytest.mark.once


def densified(values, sparsity, shape):
    """Follow the description of a sparse tensor, value by value."""
    *dense, compressed = sparsity["dim_metadata"]
    order = sparsity["traversal_order"]
    result = np.zeros(shape, values.dtype)
    segments = compressed["array_segments"]["values"]
    indices = compressed["array_indices"]["values"]
    outer = [metadata["dense_size"] for metadata in dense]
    for row, place in enumerate(np.ndindex(*outer)):
        for n in range(segments[row], segments[row + 1]):
            where = [0] * len(shape)
            for dimension, index in zip(order, (*place, indices[n]), strict=True):
                where[dimension] = index
            result[tuple(where)] = values[n]
    return result


@given(
    hnp.arrays(
        np.int8,
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
        elements=st.sampled_from([0, 0, 0, 1, -3]),
    ),
    st.integers(0, 3),
)
@example(np.zeros((2, 3), np.int8), 1)
def test_a_sparse_form_holds_every_value_once(values, axis):
    axis %= values.ndim
    kept, sparsity = sparse_encoding.encode(values, axis)
    assert len(kept) == max(1, np.count_nonzero(values))
    np.testing.assert_array_equal(densified(kept, sparsity, values.shape), values)
    compressed = sparsity["dim_metadata"][-1]
    vectors = [
        compressed[f"array_{part}"]["values"] for part in ("segments", "indices")
    ]
    size = kept.nbytes + sum(vector.nbytes for vector in vectors)
    assert size == sparse_encoding.encoded_size(values, axis)


def test_indices_get_the_narrowest_type_that_holds_them():
    values = np.zeros((2, 257), "i1")
    values[1, [3, 256]] = 1
    _, sparsity = sparse_encoding.encode(values, 1)
    compressed = sparsity["dim_metadata"][-1]
    assert compressed["array_indices"].kind == "Uint16Vector"
    assert compressed["array_segments"].kind == "Uint8Vector"
    _, sparsity = sparse_encoding.encode(values[:, 1:], 1)
    compressed = sparsity["dim_metadata"][-1]
    assert compressed["array_indices"].kind == "Uint8Vector"
    assert compressed["array_indices"]["values"].tolist() == [2, 255]
