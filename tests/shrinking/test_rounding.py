"""The numbers in a file, against twins written from their definitions."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.tflite import tflite_writer as writer

from penjing.shrinking import unit_order
from penjing.shrinking.rounding import round_mantissa
from penjing.shrinking.unit_groups import UnitGroups
from penjing.sparse import sparse_encoding
from penjing.tflite.loading import load_records
from penjing.tflite.records import Record
from penjing.tflite.tensors import clear_negative_zeros, values_of

pytestmark = pytest.mark.once

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


@given(hnp.arrays(np.float32, 8, elements=FLOATS), st.integers(0, 23))
def test_rounded_mantissas_are_the_nearest_of_few_bits(values, bits):
    mantissas, exponents = np.frexp(values.astype("f8"))
    # 1 bit before the point of the significand, `bits` behind it; ties to even.
    expected = np.ldexp(np.rint(mantissas * 2.0 ** (bits + 1)), exponents - bits - 1)
    np.testing.assert_array_equal(round_mantissa(values, bits), expected.astype("f4"))


def test_halves_are_rounded_to_even_and_infinities_stay():
    values = np.array([1.25, 1.75, -1.25, 0.0, np.inf, np.nan, 3.4e38], "f4")
    rounded = round_mantissa(values, 1)
    np.testing.assert_array_equal(rounded[:5], [1.0, 2.0, -1.0, 0.0, np.inf])
    assert np.isnan(rounded[5]) and np.isfinite(rounded[6])


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


def test_negative_zeros_become_zeros_and_nothing_else_changes():
    data = np.array([-0.0, 0.0, -1.5, np.nan], "<f4")
    tensors = [writer.make_tensor("a", [4], 0, 1), writer.make_tensor("b", [4], 2, 1)]
    model = load_records(writer.make_file(tensors, [b"", data.tobytes()]), "it")
    clear_negative_zeros(model)
    first, second = model["subgraphs"][0]["tensors"]
    values = values_of(model, first)
    np.testing.assert_array_equal(values, data)
    assert not np.signbit(values[:2]).any() and values.dtype == np.float32
    np.testing.assert_array_equal(values_of(model, second), data.view("<i4"))


# Orders of units


def tensor(model, shape, values=None):
    buffer = Record("Buffer")
    if values is not None:
        buffer["data"] = np.frombuffer(np.asarray(values, "<f4").tobytes(), "u1")
    model["buffers"] = [*model["buffers"], buffer]
    graph = model["subgraphs"][0]
    item = Record("Tensor", shape=np.array(shape, "<i4"))
    item["buffer"] = len(model["buffers"]) - 1
    graph["tensors"] = [*graph["tensors"], item]
    return len(graph["tensors"]) - 1


def operate(model, code, inputs, output):
    codes = [*model["operator_codes"], Record("OperatorCode", builtin_code=code)]
    graph = model["subgraphs"][0]
    operator = Record(
        "Operator",
        opcode_index=len(codes) - 1,
        inputs=np.array(inputs, "<i4"),
        outputs=np.array([output], "<i4"),
    )
    model["operator_codes"] = codes
    graph["operators"] = [*graph["operators"], operator]


def dense_chain(between, width=(6, 6)):
    """Dense 6, an operator, dense 2; the operator's number is `between`."""
    model = Record("Model", subgraphs=[Record("SubGraph")], buffers=[Record("Buffer")])
    generator = np.random.default_rng(0)
    x = tensor(model, [1, 4])
    first = tensor(model, [6, 4], generator.normal(size=(6, 4)))
    bias = tensor(model, [6], np.arange(6)[::-1])
    hidden, middle = tensor(model, [1, width[0]]), tensor(model, [1, width[1]])
    second = tensor(model, [2, width[1]], generator.normal(size=(2, width[1])))
    y = tensor(model, [1, 2])
    operate(model, 9, [x, first, bias], hidden)
    operate(model, between, [hidden], middle)
    operate(model, 9, [middle, second, -1], y)
    graph = model["subgraphs"][0]
    graph["inputs"], graph["outputs"] = np.array([x], "<i4"), np.array([y], "<i4")
    return model


def test_units_move_between_layers_that_are_tied_by_known_operators():
    relu, softmax, unknown = 19, 25, 112
    assert len(UnitGroups(dense_chain(relu)).movable()) == 1
    assert UnitGroups(dense_chain(softmax)).movable() == []
    assert UnitGroups(dense_chain(unknown)).movable() == []


def test_units_that_are_an_output_too_stay():
    model = dense_chain(19)
    graph = model["subgraphs"][0]
    graph["outputs"] = np.array([6, 3], "<i4")
    assert UnitGroups(model).movable() == []


def test_weights_that_two_layers_share_stay():
    model = dense_chain(19)
    operate(model, 9, [0, 1, -1], tensor(model, [1, 6]))
    assert UnitGroups(model).movable() == []


def test_rows_columns_and_biases_move_together():
    model = dense_chain(19)
    before = [
        values_of(model, t)
        for t in np.array(model["subgraphs"][0]["tensors"])[[1, 2, 5]]
    ]
    group = UnitGroups(model).movable()[0]
    lot = unit_order._Lot(model, UnitGroups(model), group)
    order = np.array([3, 1, 0, 5, 4, 2])
    lot._apply(order)
    after = [
        values_of(model, t)
        for t in np.array(model["subgraphs"][0]["tensors"])[[1, 2, 5]]
    ]
    np.testing.assert_array_equal(after[0], before[0][order])
    np.testing.assert_array_equal(after[1], before[1][order])
    np.testing.assert_array_equal(after[2], before[2][:, order])


def test_sorted_units_compress_better_than_shuffled_ones():
    generator = np.random.default_rng(1)
    features = generator.integers(-7, 8, (96, 400)).astype("f4")
    density = generator.random(96)
    features[generator.random(features.shape) > density[:, None]] = 0

    def size(order):
        return len(gzip.compress(features[order].astype("i1").T.tobytes(), 9))

    plain = size(np.arange(96))
    for order in (unit_order._by_zeros, unit_order._by_likeness):
        found = order([features])
        assert sorted(found) == list(range(96))
        assert size(found) < 0.985 * plain
