"""Sparse tensors written densely, and free sizes made fixed."""

import keras
import numpy as np
import pytest
from tests.sparse.sparse_topologies import (
    build_topology,
    edited,
    image_samples,
    sparse_unchecked,
)

import penjing
from penjing.errors import FileFormatError
from penjing.sparse.dense_twin import dense_twin, has_sparse_tensors
from penjing.sparse.sparse_weights import (
    SPARSE_VERSION,
    SparseWeight,
    store_sparse,
)
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import is_plain, values_of
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once

RESHAPE, DENSIFY = Operator.RESHAPE, Operator.DENSIFY


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network with zeros in 1x1 convolutions, and its file."""
    path = tmp_path_factory.mktemp("network") / "model.tflite"
    model = build_topology("convolution_behind_pooling")
    penjing.export_litert(model, path)
    return model, path.read_bytes()


def constants(content):
    """Name of each dense constant of more than a few values -> its values."""
    model = load_records(content, "the file")
    return {
        bytes(t["name"]): values_of(model, t)
        for t in model["subgraphs"][0]["tensors"]
        if is_plain(model, t) and values_of(model, t).size > 8
    }


def operators(content):
    model = load_records(content, "the file")
    return [operator_code(model, op) for op in model["subgraphs"][0]["operators"]]


def outputs(content, tmp_path, x):
    path = tmp_path / "run.tflite"
    path.write_bytes(content)
    return penjing.LiteRTModel(path).predict(x)


def test_the_twin_of_a_sparse_file_holds_the_dense_weights(network, tmp_path):
    model, dense = network
    sparse = sparse_unchecked(dense)
    assert has_sparse_tensors(sparse, "it")
    assert operators(sparse).count(DENSIFY) == 4
    twin = dense_twin(sparse, "it")
    assert not has_sparse_tensors(twin, "it")
    assert operators(twin) == operators(dense)
    expected, found = constants(dense), constants(twin)
    assert expected.keys() <= found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    x = image_samples(model)
    np.testing.assert_array_equal(
        outputs(twin, tmp_path, x), outputs(dense, tmp_path, x)
    )


def test_blocks_of_dense_layers_are_decoded(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(32, 24)).astype("float32")
    blocks = kernel.T.reshape(24, 8, 4)
    blocks[np.random.default_rng(1).random((24, 8)) < 0.8] = 0
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(24)])
    model.set_weights([blocks.reshape(24, 32).T, np.ones(24, "float32")])
    penjing.export_litert(model, tmp_path / "dense.tflite")
    dense = (tmp_path / "dense.tflite").read_bytes()
    records = load_records(dense, "it")
    (place,) = (
        n
        for n, tensor in enumerate(records["subgraphs"][0]["tensors"])
        if list(tensor["shape"]) == [24, 32]
    )
    weight = SparseWeight(graph=0, tensor=place, in_blocks=True)
    sparse = edited(dense, store_sparse, [weight])
    assert has_sparse_tensors(sparse, "it")
    twin = load_records(dense_twin(sparse, "it"), "it")
    # Else LiteRT would keep the dense layer from its fast kernels.
    assert all(code["version"] != SPARSE_VERSION for code in twin["operator_codes"])
    expected, found = constants(dense), constants(dense_twin(sparse, "it"))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def hand_written(shape, order, block_map, levels, values):
    """A file of one sparse tensor, described by hand."""
    dim_metadata = []
    for level in levels:
        if isinstance(level, int):
            dim_metadata.append(Record("DimensionMetadata", dense_size=level))
            continue
        segments, indices = (
            Record("Uint8Vector", values=np.array(numbers, "u1")) for numbers in level
        )
        dim_metadata.append(
            Record(
                "DimensionMetadata",
                format=1,
                array_segments=segments,
                array_indices=indices,
            )
        )
    sparsity = Record(
        "SparsityParameters",
        traversal_order=np.array(order, "<i4"),
        block_map=np.array(block_map, "<i4"),
        dim_metadata=dim_metadata,
    )
    data = np.frombuffer(np.array(values, "<f4").tobytes(), "u1")
    tensor = Record(
        "Tensor",
        shape=np.array(shape, "<i4"),
        buffer=1,
        name=b"weights",
        sparsity=sparsity,
    )
    graph = Record("SubGraph", tensors=[tensor])
    return write_records(
        Record(
            "Model",
            version=3,
            subgraphs=[graph],
            buffers=[Record("Buffer"), Record("Buffer", data=data)],
        )
    )


@pytest.mark.parametrize(
    ("shape", "order", "block_map", "levels", "expected"),
    [
        # Rows of 3, the values 1, 2 and 3 in the places (0, 2), (1, 0) and (1, 1).
        ([2, 3], [0, 1], [], [2, ([0, 1, 3], [2, 0, 1])], [[0, 0, 1], [2, 3, 0]]),
        # The same positions with the last axis outermost: columns of 2.
        ([2, 3], [1, 0], [], [3, ([0, 1, 2, 3], [1, 1, 0])], [[0, 0, 3], [1, 2, 0]]),
        # Blocks of 1x2 in 2x4: the block (0, 1) holds 1 and 2, (1, 0) holds 3 and 4.
        (
            [2, 4],
            [0, 1, 2],
            [1],
            [2, ([0, 1, 2], [1, 0]), 2],
            [[0, 0, 1, 2], [3, 4, 0, 0]],
        ),
        # Blocks of 2x2 in 4x2: the lower one.
        (
            [4, 2],
            [0, 1, 2, 3],
            [0, 1],
            [2, ([0, 0, 1], [0]), 2, 2],
            [[0, 0], [0, 0], [1, 2], [3, 4]],
        ),
    ],
)
def test_the_format_is_decoded_as_worked_out_by_hand(
    shape, order, block_map, levels, expected
):
    values = np.arange(1, np.count_nonzero(expected) + 1)
    content = hand_written(shape, order, block_map, levels, values)
    model = load_records(dense_twin(content, "it"), "it")
    tensor = model["subgraphs"][0]["tensors"][0]
    np.testing.assert_array_equal(values_of(model, tensor), np.array(expected, "f4"))


@pytest.mark.parametrize(
    ("order", "block_map", "levels", "values"),
    [
        ([0, 1], [], [2, ([0, 1, 3], [2, 0, 9])], [1, 2, 3]),  # an index beyond
        ([0, 1], [], [2, ([0, 1], [2])], [1]),  # a row without an end
        ([0, 1], [], [2, ([0, 3, 1], [2, 0, 1])], [1]),  # falling segments
        ([0, 1], [], [2, ([0, 1, 3], [2, 0, 1])], [1, 2]),  # a value too few
        ([0, 0], [], [2, ([0, 1, 3], [2, 0, 1])], [1, 2, 3]),  # an axis twice
        ([0], [], [2], [1, 2]),  # an axis without a description
        ([0, 1, 2], [1], [2, ([0, 1, 2], [1, 0]), 2], [1, 2, 3, 4]),  # 3 in blocks of 2
        ([0, 1], [1], [2, ([0, 1, 3], [2, 0, 1])], [1, 2, 3]),  # blocks of no size
        ([0, 1, 2], [7], [2, ([0, 1, 2], [1, 0]), 2], [1, 2, 3, 4]),  # of no axis
    ],
)
def test_what_does_not_fit_is_refused(order, block_map, levels, values):
    content = hand_written([2, 3], order, block_map, levels, values)
    with pytest.raises(FileFormatError, match=r"sparse tensor b'weights'"):
        dense_twin(content, "it")
