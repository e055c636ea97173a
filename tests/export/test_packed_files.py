"""The public verb and its command: what is written, told and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.packing.micro_files import MicroFile, dense_file, levels
from typer.testing import CliRunner

import penjing
from penjing.cli.application import app
from penjing.export import packed_files
from penjing.packing.packing import pack, restore
from penjing.runtime.interpreter import LiteRTModel
from penjing.runtime.reference_runner import ReferenceRunner
from penjing.runtime.tflm import has_tflm
from penjing.runtime.trials import FileRunner
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records
from penjing.web import wasm_latency

pytestmark = pytest.mark.once
needs_tflm = pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]")

FEW_AND_SPARSE = levels((24, 64), [-2, -1, 1, 2], 0.9)


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense_file(FEW_AND_SPARSE))
    return path


@needs_tflm
def test_a_packed_file_lies_beside_its_plain_one(plain):
    before = plain.read_bytes()
    report = penjing.pack_litert(plain, progress=False)
    written = plain.with_name("dense.packed.tflite")
    assert report.path == str(written) and plain.read_bytes() == before
    assert report.flash_before == len(before)
    assert report.flash_after == len(written.read_bytes())
    assert report.flash_saved == report.flash_before - report.flash_after > 1000
    assert report.arena_added == report.arena_after - report.arena_before > 1536
    text = str(report)
    assert "Outputs in TFLM equal the plain file's, bit for bit, on 4 inputs." in text
    assert report.plain_is_right and "what it gives in LiteRT" in text
    assert f"arena: {report.arena_before:,} -> {report.arena_after:,} bytes" in text
    assert "measured in TFLM" in text and "huffman" in text
    with pytest.raises(penjing.CompressionError, match="There is a file"):
        penjing.pack_litert(plain)
    assert penjing.pack_litert(plain, overwrite=True, progress=False) == report


@needs_tflm
def test_a_file_that_tflm_runs_wrong_is_not_packed(tmp_path):
    """A dilated convolution as converters write it: TFLM pads with 0."""
    file = MicroFile()
    x = file.tensor((1, 4, 4, 1))
    padded, flat = file.tensor((4, 4, 4, 1)), file.tensor((1, 64))
    for number in (x, padded, flat):
        points = file.graph["tensors"][number]["quantization"]
        points["zero_point"] = np.array([-128], "<i8")
    twos = [
        file.tensor((2,), "int32", [2, 2], ()),
        file.tensor((2, 2), "int32", [[2, 2], [2, 2]], ()),
    ]
    options = Record("SpaceToBatchNDOptions")
    file.operate(Operator.SPACE_TO_BATCH_ND, [x, *twos], padded, options)
    shape = file.tensor((2,), "int32", [1, 64], ())
    options = Record("ReshapeOptions", new_shape=np.array([1, 64], "<i4"))
    file.operate(Operator.RESHAPE, [padded, shape], flat, options)
    path = tmp_path / "dilated.tflite"
    path.write_bytes(file.end([x], [file.dense(flat, FEW_AND_SPARSE)]))
    with pytest.raises(penjing.ExportError, match=r"SPACE_TO_BATCH.* runtime='micro'"):
        penjing.pack_litert(path, progress=False)
    assert [item.name for item in tmp_path.iterdir()] == ["dilated.tflite"]


@needs_tflm
def test_a_plain_file_that_cannot_be_checked_is_said(plain, monkeypatch):
    def fails(content, where):
        raise penjing.MissingDependencyError("no LiteRT")

    monkeypatch.setattr(packed_files, "compare_in_tflm", fails, raising=False)
    report = penjing.pack_litert(plain, progress=False)
    assert not report.plain_is_right
    assert "is right there was not checked: LiteRT" in report.proof


@needs_tflm
def test_a_free_batch_becomes_one(tmp_path):
    model = load_records(dense_file(FEW_AND_SPARSE), "f")
    for tensor in model["subgraphs"][0]["tensors"]:
        if tensor["shape"][0] == 1:
            tensor["shape_signature"] = np.array([-1, *tensor["shape"][1:]], "<i4")
    path = tmp_path / "free.tflite"
    path.write_bytes(write_records(model))
    assert penjing.pack_litert(path, progress=False).compared


def test_restored_it_runs_in_litert_as_before(plain, tmp_path):
    out = tmp_path / "packed.tflite"
    penjing.pack_litert(plain, out, progress=False)
    twin = tmp_path / "restored.tflite"
    twin.write_bytes(restore(out.read_bytes()))
    x = np.random.default_rng(0).integers(-128, 128, (1, 64)).astype("i1")
    first, second = (LiteRTModel(path).predict(x) for path in (plain, twin))
    np.testing.assert_array_equal(first, second)


def test_the_plain_file_is_never_replaced(plain):
    with pytest.raises(penjing.CompressionError, match="is the file to pack"):
        penjing.pack_litert(plain, plain, overwrite=True)


def test_a_packed_file_is_refused(plain, tmp_path):
    out = tmp_path / "packed.tflite"
    penjing.pack_litert(plain, out, progress=False)
    with pytest.raises(penjing.FileFormatError, match="is packed already"):
        penjing.pack_litert(out)


@pytest.mark.parametrize("scales", [1, 24], ids=["one scale", "scales of channels"])
def test_litert_says_that_a_packed_file_is_for_tflm_only(scales, tmp_path):
    out = tmp_path / "packed.tflite"
    steps = np.linspace(0.1, 1, scales)
    out.write_bytes(pack(dense_file(FEW_AND_SPARSE, steps)).content)
    content = out.read_bytes()
    x = np.zeros((1, 64), "i1")
    for work in (
        lambda: LiteRTModel(out),
        lambda: LiteRTModel(out, isolated=False),
        lambda: penjing.shrink_litert(out),
        lambda: penjing.shrink_litert(out, verify=False),
        lambda: penjing.measure_latency([out], progress=False),
        lambda: penjing.count_instructions([out], progress=False),
        lambda: wasm_latency.fixed_content(out),
        lambda: penjing.verify(out, "x86"),
        lambda: penjing.verify(out, "arm"),
        lambda: penjing.verify(out, "wasm"),
        lambda: penjing.evaluate(out, x, np.zeros(1)),
        lambda: FileRunner().run(content, [], str(out)),
        lambda: ReferenceRunner().run(content, [[x]], where=str(out)),
    ):
        with pytest.raises(penjing.FileFormatError, match="Lite Micro only") as caught:
            work()
        assert str(out) in str(caught.value)
        assert "Run the plain file from which" in str(caught.value)
        assert "damaged" not in str(caught.value)


def test_a_packed_file_is_inspected_as_what_it_decodes_to(plain, tmp_path):
    out = tmp_path / "packed.tflite"
    penjing.pack_litert(plain, out, progress=False)
    inspection = penjing.inspect_file(out)
    (row,) = [r for r in inspection.tensors if r.dtype == "int8"]
    assert row.shape == (24, 64) and row.distinct == 5
    assert row.zeros == int((FEW_AND_SPARSE == 0).sum())
    assert inspection.bytes == out.stat().st_size
    assert "packed for TensorFlow Lite Micro" in inspection.hints[0]
    assert row.packed == "huffman" and "packed in the form huffman" in row.hint
    assert "one by one" not in row.hint
    assert row.bytes < 1536 / 3 and row.gzip < row.bytes + 30
    assert sum(row.bytes for row in inspection.tensors) < inspection.bytes


@pytest.mark.parametrize("runtime", ["ethos-u", "x86", "wasm"])
def test_what_packed_files_gain_elsewhere_is_not_explained(runtime, plain, monkeypatch):
    monkeypatch.setattr("penjing.measurement.sparse_report.require_vela", lambda: None)
    plain.write_bytes(pack(plain.read_bytes()).content)
    with pytest.raises(penjing.FileFormatError, match="Micro only.*Run the plain"):
        penjing.explain_sparsity(plain, runtime)


def test_what_cannot_be_packed_leaves_no_file(tmp_path):
    path = tmp_path / "noise.tflite"
    noise = np.random.default_rng(0).integers(-128, 128, (24, 64))
    path.write_bytes(dense_file(noise))
    with pytest.raises(penjing.UnsupportedModelError, match="gets smaller"):
        penjing.pack_litert(path)
    assert [item.name for item in Path(tmp_path).iterdir()] == ["noise.tflite"]


def test_without_tflm_the_report_says_that_nothing_was_compared(plain, monkeypatch):
    monkeypatch.setattr("penjing.packing.tflm_comparison.has_tflm", lambda: False)
    report = penjing.pack_litert(plain, progress=False)
    assert "could not be compared" in report.proof
    assert 'pip install "penjing[micro]"' in report.proof
    assert "estimated" in report.totals


@needs_tflm
def test_the_command_tells_flash_and_ram(plain):
    result = CliRunner().invoke(app, ["pack", str(plain)])
    assert result.exit_code == 0, result.output
    assert "flash: " in result.output and "arena: " in result.output
    again = CliRunner().invoke(app, ["pack", str(plain), "--overwrite", "--json"])
    table = json.loads(again.stdout)
    assert table["weights"][0]["form"] == "huffman"
    assert table["flash_after"] < table["flash_before"]


def test_progress_is_told(plain):
    told = []
    penjing.pack_litert(plain, progress=told.append)
    assert told[-1].done == told[-1].total == 1


def test_the_commands_name_options_as_they_are_typed(plain, tmp_path):
    (tmp_path / "dense.packed.tflite").write_bytes(b"mine")
    runner = CliRunner()
    said = runner.invoke(app, ["pack", str(plain)], env={"COLUMNS": "1000"})
    assert said.exit_code
    text = " ".join((said.output + str(said.exception)).split())
    assert "Give another --out, or --overwrite to write over it." in text
    (tmp_path / "net.h").write_bytes(b"mine")
    folder = ["export-c", str(plain), str(tmp_path), "--name", "net"]
    said = runner.invoke(app, folder, env={"COLUMNS": "1000"})
    text = " ".join((said.output + str(said.exception)).split())
    assert "Give another --name or folder, or --overwrite to write over it." in text
