"""What zeros buy: layer by layer, in models and in files."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from tests.sparse.sparse_topologies import build_topology, sparse_unchecked
from typer.testing import CliRunner

import penjing
from penjing.cli.application import app
from penjing.errors import FileFormatError
from penjing.sparse.sparse_rules import RUNTIMES, SOURCES, SPARSE_RULES, rule_for
from penjing.tflite.loading import load_records
from penjing.tflite.tensors import TensorType, all_tensors, data_of, set_values
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once
BOTH = "bytes and milliseconds"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Dense and sparse files of a right and of a wrong network."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("mobilenet", "max_pooling"):
        model = build_topology(name)
        path = penjing.export_litert(model, folder / f"{name}.tflite", verify=False)
        sparse = sparse_unchecked(path.read_bytes())
        (folder / f"{name}_sparse.tflite").write_bytes(sparse)
    return folder


def pruned_dense(pattern):
    """One dense layer with 90 % zeros in blocks, made as a user would."""
    model = keras.Sequential(
        [keras.Input((256,)), keras.layers.Dense(256, name="d")], name="sequential"
    )
    schedule = penjing.ConstantSparsity(0.9)
    pruned = penjing.prune(model, schedule, pattern=pattern)
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((2, 256)), np.ones((2, 256)), verbose=0)
    return penjing.strip(pruned)


def test_every_convolution_of_a_model_says_what_its_zeros_buy():
    explanation = penjing.explain_sparsity(build_topology("mobilenet"), "wasm")
    assert explanation.outcome == "fast" and not explanation.problems
    kinds = {row.layer.rstrip("_0123456789"): row.buys for row in explanation.layers}
    assert kinds["depthwise_conv2d"] == "nothing"
    fast = [row for row in explanation.layers if row.buys == BOTH]
    assert [row.layer for row in fast] == ["conv2d_1", "conv2d_2", "conv2d_3"]
    assert all("sparse" in row.kernel and row.sparsity > 0.8 for row in fast)
    assert explanation.is_encoded
    assert "zeros of 3 layers save time" in str(explanation)


@pytest.mark.parametrize(
    ("name", "outcome", "problem"),
    [
        ("max_pooling", "wrong", "MAX_POOL_2D"),
        ("squeeze_excite", "dense", "RESHAPE"),
        ("few_zeros", "dense", ""),
    ],
)
def test_a_model_that_does_not_fit_says_why(name, outcome, problem):
    explanation = penjing.explain_sparsity(build_topology(name), "wasm")
    assert explanation.outcome == outcome and not explanation.is_encoded
    assert problem in " ".join(explanation.problems)
    assert all(
        row.buys in ("nothing", "compressed bytes") for row in explanation.layers
    )
    reasons = {row.reason for row in explanation.layers if row.layer.startswith("conv")}
    assert len(reasons) == 2 and "" not in reasons


def test_a_file_says_what_is_in_it(files):
    dense = penjing.explain_sparsity(files / "mobilenet.tflite", "wasm")
    assert not dense.is_encoded and dense.outcome == "dense"
    assert any('export it with encoding="sparse"' in r.reason for r in dense.layers)
    assert all(row.buys != BOTH for row in dense.layers)
    sparse = penjing.explain_sparsity(files / "mobilenet_sparse.tflite", "wasm")
    assert sparse.is_encoded and sparse.outcome == "fast"
    assert [row.buys for row in sparse.layers].count(BOTH) == 3
    assert [row.sparsity for row in dense.layers] == pytest.approx(
        [row.sparsity for row in sparse.layers]
    )


def test_a_wrong_file_is_called_wrong(files):
    path = files / "max_pooling_sparse.tflite"
    explanation = penjing.explain_sparsity(path, "wasm")
    assert explanation.outcome == "wrong"
    assert "WRONG outputs" in explanation.summary
    dense = penjing.explain_sparsity(files / "max_pooling.tflite", "wasm")
    assert dense.outcome == "wrong" and "Dense it is right" in dense.summary


def test_convolutions_save_no_time_on_x86(files):
    explanation = penjing.explain_sparsity(files / "mobilenet_sparse.tflite", "x86")
    assert explanation.outcome == "dense"
    pointwise = explanation.layers[2]
    assert pointwise.buys == "bytes" and "turns sparse" in pointwise.reason


def test_blocks_along_the_inputs_pay_and_others_are_told():
    for runtime in ("x86", "arm"):
        right = penjing.explain_sparsity(pruned_dense(penjing.Block(4, 1)), runtime)
        rows = [(row.layer, row.buys) for row in right.layers]
        assert (rows, right.outcome) == ([("sequential/d", BOTH)], "fast")
    wrong = penjing.explain_sparsity(pruned_dense(penjing.Block(1, 4)), "x86")
    (row,) = wrong.layers
    assert row.buys == "compressed bytes"
    assert "blocks lie along the outputs" in row.reason
    assert "Block(4, 1)" in row.reason
    assert (
        "on wasm"
        in penjing.explain_sparsity(pruned_dense(penjing.Block(4, 1)), "wasm")
        .layers[0]
        .reason
    )


def test_blocks_of_other_weights_than_float32_are_called_wrong(tmp_path):
    model = pruned_dense(penjing.Block(4, 1))
    path = tmp_path / "blocks.tflite"
    penjing.export_litert(model, path, encoding="sparse", runtime="x86")
    explanation = penjing.explain_sparsity(path, "x86")
    assert (explanation.outcome, explanation.is_encoded) == ("fast", True)
    assert "zeros of 1 layer save" in explanation.summary
    content = load_records(path.read_bytes(), "blocks")
    (tensor,) = [t for t in all_tensors(content) if t["sparsity"]]
    values = np.ascontiguousarray(data_of(content, tensor)).view("<f4")
    set_values(content, tensor, values.astype("<f2"))
    tensor["type"] = TensorType.FLOAT16
    path.write_bytes(write_records(content))
    explanation = penjing.explain_sparsity(path, "x86")
    assert explanation.outcome == "wrong" and "NaN" in explanation.layers[0].reason
    set_values(content, tensor, np.zeros(3, "u1"))  # half a value too much
    path.write_bytes(write_records(content))
    with pytest.raises(FileFormatError, match="has 1 values of 16 bits, but 3 bytes"):
        penjing.explain_sparsity(path, "x86")


def test_an_operator_that_nobody_foresaw_is_an_error_of_the_file(tmp_path, monkeypatch):
    def rows(self):
        raise IndexError("list index out of range")

    path = tmp_path / "net.tflite"
    penjing.export_litert(pruned_dense(penjing.Unstructured()), path)
    monkeypatch.setattr("penjing.sparse.sparse_kernels.GraphKernels.rows", rows)
    with pytest.raises(
        FileFormatError, match="net.tflite has an operator .* cannot be"
    ):
        penjing.explain_sparsity(path, "x86")


def test_a_model_in_training_is_explained_as_it_is_exported(capsys):
    model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(256, name="d")])
    pruned = penjing.prune(
        model, penjing.ConstantSparsity(0.9), pattern=penjing.Block(4, 1)
    )
    pruned.compile("sgd", "mse")
    pruned.train_on_batch(np.ones((2, 256)), np.ones((2, 256)))
    (row,) = penjing.explain_sparsity(pruned, "x86").layers
    assert row.layer.endswith("/d") and row.buys == BOTH
    assert not capsys.readouterr().err


def test_integer_files_are_told_apart():
    path = "tests/data/mlperf_tiny/keyword_spotting.tflite"
    explanation = penjing.explain_sparsity(path, "arm")
    assert explanation.problems == (
        "It computes with integers, and sparse kernels compute in float: export "
        "float32 or float16 weights.",
    )
    assert all("integer weights" in row.kernel for row in explanation.layers)


def test_zeros_of_integers_of_four_bits_are_counted(tmp_path):
    model = pruned_dense(penjing.Block(4, 1))
    path = penjing.export_litert(model, tmp_path / "a.tflite", "int4", verify=False)
    (row,) = penjing.explain_sparsity(path, "x86").layers
    assert 0.89 < row.sparsity < 0.95 and row.buys == "compressed bytes"


def test_the_command_prints_the_same(files):
    runner = CliRunner()
    path = str(files / "max_pooling_sparse.tflite")
    result = runner.invoke(app, ["inspect", path, "--runtime", "wasm"])
    assert result.exit_code == 0
    assert "WRONG outputs" in result.output and "MAX_POOL_2D" in result.output
    result = runner.invoke(app, ["inspect", path, "--runtime", "wasm", "--json"])
    content = json.loads(result.output)
    assert content["outcome"] == "wrong"
    assert content["layers"][2]["operator"] == "CONV_2D"
    assert content == penjing.explain_sparsity(path, "wasm").to_dict()


def test_what_is_no_runtime_or_file_is_refused(tmp_path):
    known = "'x86', 'arm', 'wasm', 'micro', 'ethos-u', got 'gpu'"
    with pytest.raises(ValueError, match=known):
        penjing.explain_sparsity("model.tflite", "gpu")
    with pytest.raises(FileFormatError, match="unknown suffix"):
        penjing.explain_sparsity(tmp_path / "model.onnx", "wasm")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\0\0\0\0TFL3" + b"\xff" * 64)
    with pytest.raises(FileFormatError):
        penjing.explain_sparsity(broken, "wasm")


def test_the_table_has_one_row_for_an_operator_and_runtime():
    for runtime in RUNTIMES:
        for operator in ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"):
            rows = [
                rule
                for rule in SPARSE_RULES
                if rule.operator == operator and runtime in rule.runtimes
            ]
            assert len(rows) == 1 and rule_for(operator, runtime) is rows[0]
            assert rows[0].source.split()[0] in SOURCES
    assert rule_for("CONV_2D", "wasm").milliseconds
    assert not rule_for("CONV_2D", "x86").milliseconds
    assert rule_for("FULLY_CONNECTED", "arm").milliseconds
    assert not rule_for("FULLY_CONNECTED", "wasm").milliseconds
