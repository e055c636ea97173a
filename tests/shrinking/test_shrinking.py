"""Files get smaller, and compute what they computed before."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tests.tflite import tflite_writer as writer

import penjing
from penjing.errors import (
    CompressionError,
    CompressionWarning,
    DataError,
    FileFormatError,
)
from penjing.shrinking import shrinking
from penjing.shrinking.shrinking import REORDERING_TOLERANCE
from penjing.tflite.loading import load_records
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records

DATA = Path(__file__).parents[1] / "data/mlperf_tiny"
LAYERS = keras.layers
once = pytest.mark.once


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sparse_model(zeros=0.8):
    """Residual, concatenated, pooled, flattened: units that can change places.

    The smaller kernels are dense: each unit is read somewhere.
    """
    x = keras.Input((8, 8, 1))
    a = LAYERS.Conv2D(16, 3, padding="same", activation="relu")(x)
    b = LAYERS.Conv2D(16, 3, padding="same")(a)
    c = LAYERS.Concatenate()([LAYERS.ReLU()(LAYERS.Add()([a, b])), a])
    d = LAYERS.DepthwiseConv2D(3, strides=2)(c)
    e = LAYERS.Dense(40, activation="relu")(LAYERS.Flatten()(d))
    model = keras.Model(x, LAYERS.Dense(6)(e))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        values = generator.normal(size=weight.shape) * 0.2
        if len(weight.shape) > 1 and weight.shape[-1] > 6:
            odds = zeros * generator.uniform(0.5, 1.2, weight.shape[-1])
            values = values * (generator.random(weight.shape) > odds)
        weight.assign(values)
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder of {float,dynamic,int8}.tflite of `sparse_model`."""
    folder = tmp_path_factory.mktemp("files")
    model = sparse_model()
    kinds = {"float": (), "dynamic": ("DEFAULT",), "int8": ("DEFAULT",)}
    for name, options in kinds.items():
        samples = normal(8, 8, 8, 1) if name == "int8" else None
        content = writer.convert(model, *options, samples=samples)
        (folder / f"{name}.tflite").write_bytes(content)
    return folder


def predict(path, x):
    return penjing.LiteRTModel(path).predict(x)


def steps(report):
    return {step.name: step for step in report.steps}


def parsed(path):
    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


# Real models


@once
@pytest.mark.parametrize(
    "name, shape, largest",
    [
        ("keyword_spotting", (50, 10, 1), 0.84),
        ("image_classification", (32, 32, 3), 0.96),
    ],
)
def test_models_of_others_give_the_same_bits_in_fewer_bytes(
    tmp_path, name, shape, largest
):
    original, out = f"{DATA}/{name}.tflite", tmp_path / "small.tflite"
    report = penjing.shrink_litert(original, out)
    x = normal(40, *shape, seed=9) * 20
    np.testing.assert_array_equal(predict(out, x), predict(original, x))
    assert report.raw_after == out.stat().st_size < report.raw_before
    assert report.gzip_after == len(gzip.compress(out.read_bytes(), 9, mtime=0))
    assert report.gzip_after < largest * report.gzip_before
    assert report.difference == 0.0
    won = report.gzip_before - report.gzip_after
    assert won == sum(step.gzip for step in report.steps)
    assert steps(report)["unit order"].gzip > 0
    assert steps(report)["quantization ranges"].gzip > 2000


# What converters write


@once
@pytest.mark.parametrize("kind", ["float", "dynamic", "int8"])
def test_units_are_reordered_and_outputs_stay(files, tmp_path, kind):
    source = files / f"{kind}.tflite"
    report = penjing.shrink_litert(source, tmp_path / "small.tflite")
    x = normal(50, 8, 8, 1, seed=3)
    actual, expected = predict(tmp_path / "small.tflite", x), predict(source, x)
    step = steps(report)["unit order"]
    assert step.gzip > 40
    if kind == "int8":
        np.testing.assert_array_equal(actual, expected)
        assert report.difference == 0.0
    else:
        np.testing.assert_allclose(actual, expected, atol=1e-4)
        assert 0 < step.difference <= REORDERING_TOLERANCE
    before = [sorted(v) for v in constants(source)]
    assert [sorted(v) for v in constants(tmp_path / "small.tflite")] == before
    assert constants(tmp_path / "small.tflite") != constants(source)


def constants(path):
    """Values of the weights, the largest tensor first."""
    found = []
    for graph in parsed(path).subgraphs:
        for tensor in graph.tensors:
            data = parsed(path).buffers[tensor.buffer].data
            if data is not None and tensor.type in (0, 9):
                values = np.asarray(data, "u1").view(
                    "<f4" if tensor.type == 0 else "i1"
                )
                found.append((values + 0).tolist())  # -0.0 becomes 0.0
    return sorted(found, key=lambda values: (len(values), sorted(values)))


@once
@pytest.mark.parametrize("kind", ["float", "dynamic", "int8"])
def test_sparse_encoding_makes_the_file_itself_small(files, tmp_path, kind):
    source, out = files / f"{kind}.tflite", tmp_path / "small.tflite"
    report = penjing.shrink_litert(source, out, encoding="sparse")
    # Two zeros in three: 5 bytes instead of 4 for a float, 2 instead of 1 for an int8.
    share = {"float": 0.5, "dynamic": 0.72, "int8": 0.72}[kind]
    assert report.raw_after < share * report.raw_before
    x = normal(50, 8, 8, 1, seed=3)
    # The other kernels round int8 outputs differently, by one step in about 100.
    tolerance = {"int8": 2.1e-2 * np.abs(predict(source, x)).max()}.get(kind, 1e-4)
    np.testing.assert_allclose(predict(out, x), predict(source, x), atol=tolerance)
    for batch in (1, 3, 50):
        again = penjing.LiteRTModel(out).predict(x, batch_size=batch)
        np.testing.assert_allclose(again, predict(source, x), atol=max(tolerance, 1e-6))
    rows = {t.shape: t for t in penjing.inspect_file(out).tensors if t.is_sparse}
    assert rows
    largest = max(penjing.inspect_file(source).tensors, key=lambda t: t.size)
    found = next(t for t in rows.values() if t.size == largest.size)
    assert found.zeros == largest.zeros


@once
def test_biases_keep_few_bits_within_the_tolerance(files, tmp_path):
    source, out = files / "float.tflite", tmp_path / "small.tflite"
    report = penjing.shrink_litert(source, out, bias_bits="auto", tolerance=3e-2)
    step = steps(report)["bias bits"]
    bits = int(step.note.split()[0])
    assert 1 <= bits <= 8 and 1e-4 < step.difference <= 3e-2
    biases = [t for t in penjing.inspect_file(source).tensors if len(t.shape) == 1]
    assert biases
    for values in constants(out):
        if len(values) in (16, 40, 6):
            codes = np.array(values, "<f4").view("<u4")
            assert not (codes & (2 ** (23 - bits) - 1)).any()
    with_none = penjing.shrink_litert(source, out, bias_bits=0, tolerance=1e-5)
    assert steps(with_none)["bias bits"].note == "would change the outputs"


@once
def test_inputs_of_the_user_count_too(files, tmp_path):
    """Large inputs make rounding of biases matter less, small ones more."""
    source, out = files / "float.tflite", tmp_path / "small.tflite"
    options = {"bias_bits": 3, "tolerance": 0.99}
    random = penjing.shrink_litert(source, out, **options)
    quiet = np.zeros((5, 8, 8, 1), "float32") + 0.01
    real = penjing.shrink_litert(source, out, representative_data=quiet, **options)
    assert steps(real)["bias bits"].difference >= steps(random)["bias bits"].difference
    with pytest.raises(DataError, match=r"of the shapes .*8, 8, 1.* got .*8, 8\)"):
        penjing.shrink_litert(source, out, representative_data=quiet[..., 0])


# What is kept and what is dropped


@once
def test_what_is_kept_is_the_callers_choice(files, tmp_path):
    source, out = files / "int8.tflite", tmp_path / "small.tflite"
    content = source.read_bytes()
    penjing.shrink_litert(source, out)
    assert source.read_bytes() == content
    model = parsed(out)
    assert model.description is None and model.metadata is None
    assert {tensor.name for tensor in model.subgraphs[0].tensors} == {None}
    assert model.signatureDefs[0].signatureKey == b"serving_default"
    named = penjing.LiteRTModel(out).inputs[0].name
    assert named == penjing.LiteRTModel(source).inputs[0].name

    penjing.shrink_litert(source, out, keep_names=True, keep_metadata=True)
    model, before = parsed(out), parsed(source)
    names = [t.name for t in before.subgraphs[0].tensors]
    assert {t.name for t in model.subgraphs[0].tensors} <= set(names)
    assert [m.name for m in model.metadata] == [m.name for m in before.metadata]
    assert model.description == before.description


@once
def test_a_file_without_signature_is_evaluated_by_position(tmp_path):
    """Outputs come in the order that their names gave."""
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    joined = LAYERS.Concatenate()([a, b])
    outputs = [LAYERS.Dense(n + 1)(joined) for n in range(3)]
    path, out = tmp_path / "two.tflite", tmp_path / "small.tflite"
    penjing.export_litert(keras.Model([a, b], outputs), path)
    report = penjing.shrink_litert(path, out, keep_signature=False)
    assert steps(report)["signature"].gzip > 50
    model = penjing.LiteRTModel(out)
    assert parsed(out).signatureDefs is None
    assert [spec.name for spec in model.inputs] == ["input_0", "input_1"]
    data = [normal(9, 3), normal(9, 2)]
    expected = penjing.LiteRTModel(path).predict(data)
    for actual, wanted in zip(model.predict(data), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-6)
    named = dict(zip(("input_0", "input_1"), data, strict=True))
    np.testing.assert_array_equal(model.predict(named)[0], model.predict(data)[0])


@once
def test_outputs_keep_the_order_that_their_names_gave(files, tmp_path):
    x = keras.Input((3,))
    outputs = [LAYERS.Dense(n + 1)(x) for n in range(3)]
    path, out = tmp_path / "three.tflite", tmp_path / "small.tflite"
    penjing.export_litert(keras.Model(x, outputs), path)
    records = load_records(path.read_bytes(), "it")
    graph = records["subgraphs"][0]
    graph["outputs"] = graph["outputs"][[1, 2, 0]]
    path.write_bytes(write_records(records))
    penjing.shrink_litert(path, out, keep_signature=False)
    data = normal(4, 3)
    shapes = [value.shape for value in penjing.LiteRTModel(out).predict(data)]
    assert shapes == [(4, 1), (4, 2), (4, 3)]


def branches():
    """Three flattened, each before a dense layer of its own."""
    inputs = keras.Input((4, 4, 2))
    ends = []
    for units in (3, 2, 5):
        x = LAYERS.Conv2D(units, 2, activation="relu")(inputs)
        ends.append(LAYERS.Dense(units)(LAYERS.Flatten()(x)))
    return keras.Model(inputs, ends)


@once
def test_all_dense_layers_flatten_by_themselves(tmp_path):
    source, out = tmp_path / "model.tflite", tmp_path / "small.tflite"
    source.write_bytes(writer.convert(branches()))
    report = penjing.shrink_litert(source, out, keep_signature=True)
    assert steps(report)["flattening"].note == "3 of 3 tensors"
    x = normal(9, 4, 4, 2)
    for actual, expected in zip(predict(out, x), predict(source, x), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@once
def test_a_step_that_fails_is_left_out_noted_and_told(files, tmp_path, monkeypatch):
    def fails(model):
        next(iter(()))

    monkeypatch.setattr(shrinking, "reorder_units", fails)
    monkeypatch.setattr(shrinking, "may_be_wrong", fails)
    with pytest.warns(CompressionWarning, match="'unit order': .*StopIteration"):
        report = penjing.shrink_litert(
            files / "int8.tflite", tmp_path / "small.tflite", encoding="sparse"
        )
    for name in ("unit order", "sparse"):
        assert steps(report)[name].note == "left out: it failed with StopIteration"
        assert "failed with StopIteration" in str(report)
    assert report.gzip_after < report.gzip_before


@once
def test_a_file_that_is_small_already_stays(files, tmp_path):
    path = tmp_path / "model.tflite"
    shutil.copy(files / "int8.tflite", path)
    first = penjing.shrink_litert(path)
    assert path.stat().st_size == first.raw_after < first.raw_before
    again = penjing.shrink_litert(path)
    assert again.gzip_after <= first.gzip_after
    assert again.gzip_before - again.gzip_after < 60
    assert os.listdir(tmp_path) == ["model.tflite"]


@once
def test_without_running_only_what_changes_no_number_is_done(files, tmp_path):
    source, out = files / "float.tflite", tmp_path / "small.tflite"
    report = penjing.shrink_litert(source, out, verify=False)
    assert report.raw_before - report.raw_after > 0
    assert report.difference is None and "unit order" not in steps(report)
    x = normal(20, 8, 8, 1)
    np.testing.assert_array_equal(predict(out, x), predict(source, x))


@once
def test_a_report_is_a_table_and_json(files, tmp_path):
    report = penjing.shrink_litert(files / "int8.tflite", tmp_path / "small.tflite")
    lines = str(report).splitlines()
    assert lines[0].endswith("small.tflite")
    assert f"{report.gzip_before:,}" in lines[2]
    assert lines[-1].split() == [
        "after",
        f"{report.raw_after:,}",
        f"{report.gzip_after:,}",
    ]
    content = json.loads(json.dumps(report.to_dict()))
    assert content["steps"][0]["name"] == "layout"
    assert content["gzip_after"] == report.gzip_after


@once
def test_loops_states_and_ids_survive(tmp_path):
    ids = keras.Input((7,), dtype="int32")
    x = LAYERS.LSTM(6)(LAYERS.Embedding(20, 8)(ids))
    model = keras.Model(ids, LAYERS.Dense(3)(LAYERS.Dense(10, activation="relu")(x)))
    path, out = tmp_path / "rnn.tflite", tmp_path / "small.tflite"
    penjing.export_litert(model, path)
    assert len(parsed(path).subgraphs) > 1
    report = penjing.shrink_litert(path, out)
    assert report.raw_after < 0.8 * report.raw_before
    data = np.random.default_rng(0).integers(0, 20, (30, 7)).astype("int32")
    np.testing.assert_allclose(predict(out, data), predict(path, data), atol=1e-6)


@once
def test_a_free_batch_is_fixed_for_runtimes_that_take_no_free_sizes(files, tmp_path):
    free, fixed = files / "int8.tflite", tmp_path / "fixed.tflite"
    with pytest.raises(FileFormatError, match=r"shrink_litert\(file, out, batch=1\)"):
        penjing.verify(free, "micro")
    report = penjing.shrink_litert(free, fixed, batch=1)
    assert report.raw_after == fixed.stat().st_size < free.stat().st_size
    assert report.raw_before == free.stat().st_size
    assert report.steps[0].name == "fixed sizes"
    assert report.raw_before - sum(s.raw for s in report.steps) == report.raw_after
    again = penjing.shrink_litert(fixed, tmp_path / "again.tflite", batch=1)
    assert again.raw_after == report.raw_after
    with pytest.raises(FileFormatError, match="takes 1 samples at once, .* batch=2"):
        penjing.shrink_litert(fixed, tmp_path / "two.tflite", batch=2)
    assert not (tmp_path / "two.tflite").exists()
    assert [spec.shape for spec in penjing.LiteRTModel(fixed).inputs] == [(1, 8, 8, 1)]
    assert penjing.verify(fixed, "micro").micro.arena.total > 0
    x = normal(3, 8, 8, 1)
    np.testing.assert_array_equal(predict(fixed, x), predict(free, x))


# Refusals


@once
@pytest.mark.parametrize(
    "options, message",
    [
        ({"bias_bits": 24}, "`bias_bits` must be None, 'auto' or 0 to 23, got 24"),
        ({"bias_bits": "few"}, "got 'few'"),
        ({"encoding": "dense"}, "`encoding` must be None or 'sparse', got 'dense'"),
        ({"tolerance": -1}, "`tolerance` must be from 0 to below 1, got -1"),
        ({"batch": 0}, "`batch` must be 1 or more, got 0"),
        ({"batch": 1, "verify": False}, "batch=1 needs verify=True"),
    ],
)
def test_arguments_out_of_range_are_refused(files, options, message):
    with pytest.raises(ValueError, match=message):
        penjing.shrink_litert(files / "int8.tflite", "never.tflite", **options)


@once
def test_operators_that_the_runtime_lacks_are_refused_unless_not_run(tmp_path):
    """A custom operator of somebody else."""
    model = schema.ModelT(version=3, description=b"x" * 500)
    model.operatorCodes = [schema.OperatorCodeT(32, b"Theirs", 1, 32)]
    model.buffers = [schema.BufferT()]
    tensor = schema.TensorT([2], 0, 0, b"a name that nobody reads")
    model.subgraphs = [
        schema.SubGraphT([tensor], [0], [0], [schema.OperatorT(0, [0], [0])])
    ]
    import flatbuffers

    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "custom.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(FileFormatError, match="operations that this runtime does not"):
        penjing.shrink_litert(path)
    report = penjing.shrink_litert(path, verify=False)
    assert report.raw_after < 250
    assert parsed(path).operatorCodes[0].customCode == b"Theirs"


# From a model, on every backend


@pytest.mark.costly_on_jax
def test_export_finishes_to_the_smallest(tmp_path):
    model = keras.Sequential(
        [keras.Input((20,)), LAYERS.Dense(40, activation="relu"), LAYERS.Dense(4)]
    )
    plain, small = tmp_path / "plain.tflite", tmp_path / "small.tflite"
    penjing.export_litert(model, plain)
    penjing.export_litert(
        model, small, finish="smallest", representative_data=normal(40, 20)
    )
    assert small.stat().st_size < plain.stat().st_size
    x = normal(30, 20, seed=5)
    expected = predict(plain, x)
    np.testing.assert_allclose(
        predict(small, x), expected, atol=1e-5 * np.abs(expected).max()
    )


@once
def test_an_unknown_finish_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="`finish` must be None or 'smallest', got 'x'"
    ):
        penjing.export_litert(sparse_model(), tmp_path / "a.tflite", finish="x")


@once
def test_what_only_one_network_proves_is_refused_of_several(files, tmp_path):
    content = load_records((files / "float.tflite").read_bytes(), "a")
    graph = content["subgraphs"][0]
    content["subgraphs"] = [graph, graph.copy()]
    again = content["signature_defs"][0].copy()
    again["signature_key"], again["subgraph_index"] = b"other", 1
    content["signature_defs"] = [*content["signature_defs"], again]
    path, out = tmp_path / "two.tflite", tmp_path / "small.tflite"
    path.write_bytes(write_records(content))
    for options in ({"bias_bits": 0}, {"keep_signature": False}, {"batch": 1}):
        with pytest.raises(FileFormatError, match="several networks"):
            penjing.shrink_litert(path, out, **options)
    report = penjing.shrink_litert(path, out)
    assert "dead units" not in {step.name for step in report.steps}
    assert len(load_records(out.read_bytes(), "b")["subgraphs"]) == 2


@once
def test_files_behind_the_model_stay_with_its_metadata(files, tmp_path):
    path, out = tmp_path / "labels.tflite", tmp_path / "small.tflite"
    shutil.copy((files / "float.tflite"), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    penjing.shrink_litert(path, out, keep_metadata=True)
    with zipfile.ZipFile(out) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    x = normal(3, 8, 8, 1)
    expected = penjing.LiteRTModel(path).predict(x)
    np.testing.assert_allclose(penjing.LiteRTModel(out).predict(x), expected, atol=1e-5)
    penjing.shrink_litert(path, out)
    assert not zipfile.is_zipfile(out)


@once
def test_the_place_to_write_to_is_looked_at_first(files, tmp_path):
    with pytest.raises(CompressionError, match="does not exist"):
        penjing.shrink_litert(
            (files / "float.tflite"), tmp_path / "no" / "small.tflite"
        )


@once
def test_a_plan_of_memory_is_not_undone(files, tmp_path):
    content = load_records((files / "float.tflite").read_bytes(), "a")
    content["metadata"] = [Record("Metadata", name=b"OfflineMemoryAllocation")]
    path = tmp_path / "planned.tflite"
    path.write_bytes(write_records(content))
    with pytest.raises(FileFormatError, match="where its tensors lie"):
        penjing.shrink_litert(path, keep_metadata=True)
