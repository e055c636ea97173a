"""Sparse encoding for speed: never a wrong file, and only where zeros pay."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.arm.arm_engines import needs_arm
from tests.sparse.sparse_topologies import (
    TOPOLOGIES,
    build_topology,
    edited,
    image_samples,
    sparse_unchecked,
)

import penjing
from penjing.arm.arm_session import ArmSession
from penjing.errors import ExportError, FileFormatError
from penjing.sparse.explicit_padding import make_padding_explicit
from penjing.sparse.sparse_export import encode_for
from penjing.sparse.sparse_graph import graph_layout
from penjing.sparse.sparse_rules import MIN_BLOCK_ZEROS
from penjing.sparse.sparse_weights import (
    SparseWeight,
    block_sparsity,
    encode_blocks,
    store_sparse,
)
from penjing.specializing import specialize
from penjing.tflite.loading import load_records
from penjing.tflite.operators import operator_name
from penjing.tflite.tensors import data_of
from penjing.tflite.writing import write_records

once = pytest.mark.once
# Right, as the runtime breaks the graph where XNNPACK has no kernel. Which kernels it
# has changes from version to version, so penjing does not count on it.
REFUSED = ("dilated_depthwise", "dense_on_features")


@pytest.fixture(scope="module")
def dense_file(tmp_path_factory):
    """Name of a topology -> its dense file, each converted once."""
    contents = {}
    folder = tmp_path_factory.mktemp("dense")

    def convert(name):
        if name not in contents:
            model = build_topology(name)
            path = folder / f"{name}.tflite"
            penjing.export_litert(model, path, verify=False)
            contents[name] = path.read_bytes()
        return contents[name]

    return convert


def predict(content, samples, tmp_path):
    path = tmp_path / "file.tflite"
    path.write_bytes(content)
    outputs = penjing.LiteRTModel(path).predict(samples)
    return outputs if isinstance(outputs, list) else [outputs]


def dense_model(kernels):
    inputs = keras.Input((kernels[0].shape[0],))
    x = inputs
    for kernel in kernels:
        x = keras.layers.Dense(kernel.shape[1], activation="relu")(x)
    model = keras.Model(inputs, x)
    for layer, kernel in zip(model.layers[1:], kernels, strict=True):
        layer.set_weights([kernel, np.full(kernel.shape[1], 0.1, "float32")])
    return model


def blocks_of_zeros(rows, columns, height, width, sparsity=0.9, seed=0):
    """A matrix `(inputs, outputs)` with blocks of zeros of height x width."""
    rng = np.random.default_rng(seed)
    kept = rng.random((rows // height, columns // width)) >= sparsity
    mask = np.kron(kept, np.ones((height, width)))
    return (rng.normal(size=(rows, columns)) * mask).astype("float32")


@once
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_twin_of_xnnpack_foresees_what_was_measured(name, dense_file):
    measured = "wrong" if name in REFUSED else TOPOLOGIES[name].outcome
    for content in (dense_file(name), sparse_unchecked(dense_file(name))):
        model = load_records(content, name)
        layout = graph_layout(model, model["subgraphs"][0])
        assert layout.outcome == measured


@pytest.fixture(scope="module")
def arm():
    with ArmSession() as session:
        yield session


def run_on_arm(session, content, samples):
    model = session.load(content, "it")
    model.feed([samples])
    outputs = model.run()
    model.close()
    return outputs


@once
@needs_arm
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_an_emulated_arm_does_what_webassembly_was_seen_to_do(name, dense_file, arm):
    """Of the wrong ones, it refuses a single one, and is silent about the others."""
    dense = specialize(dense_file(name))
    sparse, samples = sparse_unchecked(dense), image_samples(build_topology(name), 1)
    expected = run_on_arm(arm, dense, samples)
    if name == "convolution_behind_pooling":
        with pytest.raises(FileFormatError, match="delegate failed to reshape"):
            run_on_arm(arm, sparse, samples)
        return
    distance, scale = 0.0, 0.0
    for one, other in zip(run_on_arm(arm, sparse, samples), expected, strict=True):
        distance = max(distance, float(np.abs(one - other).max()))
        scale = max(scale, float(np.abs(other).max()))
    # Its shapes were computed when it was tried in WebAssembly, which broke its graph.
    made_one = name == "dense_on_features"
    if TOPOLOGIES[name].outcome == "wrong" or made_one:
        assert distance > 0.05 * scale
    else:
        assert distance < 5e-6 * scale


@once
@pytest.mark.parametrize("runtime", ["wasm", "arm"])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_no_wrong_and_no_useless_file_is_written(name, runtime, dense_file):
    outcome = TOPOLOGIES[name].outcome
    if outcome == "fast" or name == "odd_size":
        content = edited(dense_file(name), encode_for, runtime, name)
        assert len(content) < 0.75 * len(dense_file(name))
        return
    is_refused = outcome == "wrong" or name in REFUSED
    expected = "silently wrong" if is_refused else "no kernel would use"
    with pytest.raises(ExportError, match=expected):
        edited(dense_file(name), encode_for, runtime, name)


@once
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("max_pooling", r"MAX_POOL_2D\): pooling has no kernel"),
        ("stride_2_same", r'padded with "same" and a stride'),
        ("ordinary_convolution", "ordinary convolution behind the first"),
        ("normalized_late", "constant operand"),
        ("few_zeros", r"60% of the weights .* more than two of three"),
        ("grey_image", "1 input channels and must have 3"),
        ("no_global_pooling", "put GlobalAveragePooling2D before"),
    ],
)
def test_a_refusal_names_the_layer_and_the_way_out(name, reason, dense_file):
    with pytest.raises(ExportError, match=reason):
        edited(dense_file(name), encode_for, "wasm", name)


@pytest.mark.costly_on_jax
@pytest.mark.parametrize("quantization", [None, pytest.param("float16", marks=once)])
def test_the_file_is_smaller_and_computes_the_same(quantization, tmp_path):
    model = build_topology("mobilenet")
    samples = image_samples(model)
    dense = penjing.export_litert(model, tmp_path / "dense.tflite", quantization)
    sparse = penjing.export_litert(
        model,
        tmp_path / "sparse.tflite",
        quantization,
        encoding="sparse",
        runtime="wasm",
    )
    assert sparse.stat().st_size < 0.8 * dense.stat().st_size
    np.testing.assert_allclose(
        penjing.LiteRTModel(sparse).predict(samples),
        penjing.LiteRTModel(dense).predict(samples),
        atol=1e-6,
    )


@once
@pytest.mark.parametrize(
    ("name", "is_sparse"), [("max_pooling", False), ("mobilenet", True)]
)
def test_shrinking_leaves_dense_what_sparse_would_be_wrong(
    name, is_sparse, dense_file, tmp_path
):
    path = tmp_path / "file.tflite"
    path.write_bytes(dense_file(name))
    penjing.shrink_litert(path, encoding="sparse")
    found = penjing.inspect_file(path).tensors
    assert any(tensor.is_sparse for tensor in found) == is_sparse


@once
def test_files_for_browsers_have_a_batch_of_one(tmp_path):
    model = dense_model([blocks_of_zeros(16, 8, 1, 1)])
    free = penjing.export_litert(model, tmp_path / "free.tflite")
    fixed = penjing.export_litert(model, tmp_path / "fixed.tflite", runtime="wasm")
    shapes = [penjing.LiteRTModel(path).inputs[0].shape for path in (free, fixed)]
    assert shapes == [(-1, 16), (1, 16)]


@once
def test_odd_sizes_get_their_padding_back(dense_file, tmp_path):
    content = dense_file("odd_size")
    model = load_records(content, "odd")
    assert make_padding_explicit(model) == 2
    names = [operator_name(model, op) for op in model["subgraphs"][0]["operators"]]
    assert names.count("PAD") == 2
    samples = image_samples(build_topology("odd_size"))
    for actual, expected in zip(
        predict(write_records(model), samples, tmp_path),
        predict(content, samples, tmp_path),
        strict=True,
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


@once
def test_uneven_padding_is_left_as_it_is(dense_file):
    model = load_records(dense_file("stem_same"), "even")
    assert make_padding_explicit(model) == 0


@once
@pytest.mark.parametrize(("runtime", "sparsity"), [("x86", 0.9), ("arm", 0.93)])
def test_dense_layers_in_blocks_run_on_the_kernel_for_them(runtime, sparsity, tmp_path):
    kernels = [blocks_of_zeros(256, 256, 4, 1, sparsity, seed=n) for n in range(2)]
    model = dense_model([*kernels, blocks_of_zeros(256, 8, 4, 1)])
    dense = penjing.export_litert(model, tmp_path / "dense.tflite")
    sparse = penjing.export_litert(
        model, tmp_path / "sparse.tflite", encoding="sparse", runtime=runtime
    )
    assert sparse.stat().st_size < 0.25 * dense.stat().st_size
    samples = np.random.default_rng(1).normal(size=(5, 256)).astype("float32")
    np.testing.assert_allclose(
        penjing.LiteRTModel(sparse).predict(samples),
        penjing.LiteRTModel(dense).predict(samples),
        rtol=1e-4,
        atol=1e-5,  # sums in another order
    )
    content = load_records(sparse.read_bytes(), "sparse")
    versions = [
        content["operator_codes"][op["opcode_index"]]["version"]
        for op in content["subgraphs"][0]["operators"]
    ]
    assert versions[:2] == [8, 8] and versions[2] != 8
    explanation = penjing.explain_sparsity(sparse, runtime)
    assert (explanation.outcome, explanation.is_encoded) == ("fast", True)


@once
@needs_arm
def test_convolutions_and_dense_layers_share_a_file_on_arm(arm, tmp_path):
    """XNNPACK runs the ones with the channels first, LiteRT the others behind them."""
    base = build_topology("features_alone", width=64)
    hidden = keras.layers.Dense(256, activation="relu", name="blocks")
    model = keras.Model(base.input, keras.layers.Dense(4)(hidden(base.output)))
    bias = np.full(256, 0.1, "float32")
    hidden.set_weights([blocks_of_zeros(256, 256, 4, 1, 0.93), bias])
    path = tmp_path / "both.tflite"
    assert penjing.explain_sparsity(model, "arm").outcome == "fast"
    penjing.export_litert(model, path, encoding="sparse", runtime="arm")
    content = load_records(path.read_bytes(), "both")
    names = [operator_name(content, op) for op in content["subgraphs"][0]["operators"]]
    assert "DENSIFY" in names
    assert any(c["version"] == 8 for c in content["operator_codes"])
    samples = image_samples(model, 1)
    (found,) = run_on_arm(arm, path.read_bytes(), samples)
    expected = model.predict(samples, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@once
@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (blocks_of_zeros(256, 256, 1, 4), r"lie along the outputs: .*Block\(4, 1\)"),
        (blocks_of_zeros(256, 256, 4, 1, 0.5), r"50% of its blocks|49% of its blocks"),
        (blocks_of_zeros(64, 64, 4, 1), "4,096 weights are fewer"),
        (blocks_of_zeros(258, 256, 1, 1), "258 inputs are no multiple of 4"),
    ],
)
def test_dense_layers_that_would_not_be_faster_are_refused(kernel, reason, tmp_path):
    path = tmp_path / "refused.tflite"
    with pytest.raises(ExportError, match=reason):
        penjing.export_litert(
            dense_model([kernel]), path, encoding="sparse", runtime="x86"
        )
    assert not path.exists()


@once
def test_on_arm_blocks_need_more_zeros(tmp_path):
    """At 80 % they would take more instructions than dense kernels."""
    model, path = (
        dense_model([blocks_of_zeros(256, 256, 4, 1, 0.82)]),
        tmp_path / "a.tflite",
    )
    with pytest.raises(ExportError, match="of its blocks .* and 88% are needed"):
        penjing.export_litert(model, path, encoding="sparse", runtime="arm")
    (row,) = penjing.explain_sparsity(model, "arm").layers
    assert "88% are needed" in row.reason


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoding": "dense"}, "must be None or 'sparse'"),
        ({"encoding": "sparse"}, "'x86', 'arm', 'wasm', got None"),
        ({"encoding": "sparse", "runtime": "gpu"}, "got 'gpu'"),
        ({"runtime": "gpu"}, "got 'gpu'"),
        (
            {"quantization": "dynamic", "encoding": "sparse", "runtime": "x86"},
            "fail to load, or are silently wrong",
        ),
        (
            {"quantization": "int8", "encoding": "sparse", "runtime": "wasm"},
            "int8 weights save no time",
        ),
        (
            {"quantization": "int4", "encoding": "sparse", "runtime": "wasm"},
            "no sparse kernel takes integer weights",
        ),
        (
            {"quantization": "float16", "encoding": "sparse", "runtime": "x86"},
            "give NaN",
        ),
    ],
)
def test_combinations_that_cannot_be_right_are_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        penjing.export_litert(
            dense_model([np.eye(4, dtype="f4")]), tmp_path / "a.tflite", **arguments
        )


@once
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.sampled_from([4, 8, 12])),
        elements=st.sampled_from([0, 0, 0, 0, 1, -2]),
    )
)
def test_blocks_hold_every_value_once(values):
    kept, sparsity = encode_blocks(values)
    _, compressed, block = sparsity["dim_metadata"]
    segments = compressed["array_segments"]["values"]
    indices = compressed["array_indices"]["values"]
    restored = np.zeros_like(values)
    for row in range(len(values)):
        for n in range(segments[row], segments[row + 1]):
            start = 4 * indices[n]
            restored[row, start : start + 4] = kept[4 * n : 4 * n + 4]
    np.testing.assert_array_equal(restored, values)
    assert block["dense_size"] == 4
    stored = len(kept) / values.size if values.any() else 0
    assert len(kept) and block_sparsity(values) == pytest.approx(1 - stored)


@once
def test_a_block_is_four_inputs_of_one_output():
    weights = np.zeros((2, 8), "f4")  # as FULLY_CONNECTED stores them
    weights[1, 5] = 3
    assert block_sparsity(weights) == 0.75
    assert block_sparsity(np.ascontiguousarray(weights.T)) == 0.0
    kept, _ = encode_blocks(weights)
    np.testing.assert_array_equal(kept, [0, 3, 0, 0])


@once
@pytest.mark.parametrize(("sparsity", "pays"), [(0.9, False), (0.95, True)])
def test_zeros_without_a_pattern_leave_blocks_empty_from_where_they_pay(sparsity, pays):
    rng = np.random.default_rng(0)
    weights = np.where(rng.random((256, 256)) < sparsity, 0, 1).astype("float32")
    assert (block_sparsity(weights) >= MIN_BLOCK_ZEROS["x86"]) is pays


@once
@pytest.mark.parametrize("in_blocks", [False, True])
def test_weights_without_any_value_stay_a_constant(in_blocks, tmp_path):
    model = dense_model([np.zeros((16, 8), "f4")])
    dense = penjing.export_litert(model, tmp_path / "dense.tflite", verify=False)
    content = load_records(dense.read_bytes(), "dense")
    (operator,) = content["subgraphs"][0]["operators"]
    number = int(operator["inputs"][1])
    weight = SparseWeight(graph=0, tensor=number, in_blocks=in_blocks)
    sparse = edited(dense.read_bytes(), store_sparse, [weight])
    content = load_records(sparse, "sparse")
    tensor = content["subgraphs"][0]["tensors"][number]
    assert tensor["sparsity"] and len(data_of(content, tensor))
    (actual,) = predict(sparse, np.ones((3, 16), "float32"), tmp_path)
    np.testing.assert_allclose(actual, np.full((3, 8), 0.1), rtol=1e-6)


@once
def test_a_file_for_browsers_needs_every_size(tmp_path):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    with pytest.raises(ExportError, match=r"shape \(-1, -1, -1, 3\).*every size"):
        penjing.export_litert(model, tmp_path / "a.tflite", runtime="wasm")
    assert not list(tmp_path.iterdir())


@once
def test_a_sparse_constant_may_be_read_by_others_than_convolutions(tmp_path):
    model = dense_model([blocks_of_zeros(16, 16, 1, 1)])
    dense = penjing.export_litert(model, tmp_path / "dense.tflite", verify=False)
    content = load_records(dense.read_bytes(), "dense")
    (operator,) = content["subgraphs"][0]["operators"]
    weight = SparseWeight(graph=0, tensor=int(operator["inputs"][1]))
    samples = np.ones((3, 16), "float32")
    (expected,) = predict(dense.read_bytes(), samples, tmp_path)
    (actual,) = predict(
        edited(dense.read_bytes(), store_sparse, [weight]), samples, tmp_path
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
