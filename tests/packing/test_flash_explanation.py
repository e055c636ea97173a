"""What zeros and levels buy, told before anything is packed."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from tests.packing.micro_files import MicroFile, levels
from tests.runtime.tflm.micro_files import unknown_operator
from typer.testing import CliRunner

import penjing
from penjing.cli.application import app
from penjing.packing import tflm_comparison
from penjing.packing.arena_estimate import arena_estimate, live_bytes
from penjing.packing.flash_explanation import explain_flash
from penjing.packing.packing import pack
from penjing.runtime.tflm import has_tflm
from penjing.tflite.records import Record

pytestmark = pytest.mark.once

SPARSE = levels((24, 64), [-2, -1, 1, 2], 0.9)
NOISE = np.random.default_rng(0).integers(-128, 128, (64, 24))


def two_layers():
    file = MicroFile()
    x = file.tensor((1, 64))
    return file.end([x], [file.dense(file.dense(x, SPARSE), NOISE)])


def test_each_layer_says_what_it_wins_and_what_it_costs(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    explanation = explain_flash(two_layers(), "two")
    first, second = explanation.layers
    assert first.layer == "dense/kernel" and first.operator == "FULLY_CONNECTED"
    assert first.levels == 5 and 0.85 < first.sparsity < 0.95
    assert first.weight.form == "huffman" and first.weight.ram == 1536
    assert "bytes of flash for 1,536 of RAM" in first.buys
    assert first.time == "decoded anew in each run, not timed"
    assert second.buys == "nothing" and second.time == "none"
    assert "1 weights such as 'dense/kernel' have too many" in explanation.problems[0]
    packed = pack(two_layers())
    assert explanation.flash_after == len(packed.content)
    assert explanation.flash_before == len(two_layers())
    added = explanation.arena_after - explanation.arena_before
    assert added == packed.arena_added
    assert "(estimated)" in str(explanation)
    assert not explanation.arena_is_measured
    assert "bytes of RAM for activations alone" in explanation.summary
    assert explanation.summary.endswith("(estimated): the arena is larger.")
    assert json.loads(json.dumps(explanation.to_dict()))["runtime"] == "micro"


@pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]")
def test_where_tflm_is_the_arena_is_measured():
    content = two_layers()
    explanation, packed = explain_flash(content, "two"), pack(content)
    assert explanation.arena_is_measured and packed.arena_is_measured
    assert explanation.arena_before == packed.arena_before > 1000
    assert explanation.arena_after == packed.arena_before + packed.arena_added
    assert f"an arena of {explanation.arena_after:,} bytes" in explanation.summary
    assert "(measured)" in explanation.summary


def test_operators_that_tflm_lacks_are_said():
    explanation = explain_flash(unknown_operator(), "f")
    assert "does not run this file, as it lacks GELU" in explanation.problems[0]
    assert "runtime='micro'" in explanation.problems[0]
    assert "lacks" not in str(explain_flash(two_layers(), "two"))


def test_a_packed_file_is_seen_through(monkeypatch):
    monkeypatch.setattr(tflm_comparison, "has_tflm", lambda: False)
    packed = pack(two_layers()).content
    explanation = explain_flash(packed, "f")
    forms = [row.weight.form for row in explanation.layers]
    assert forms == ["huffman", "plain"]
    # Tensors may have another order, and gaps between them other sizes.
    assert abs(explanation.flash_after - len(packed)) <= 32
    assert 0.9 < explanation.flash_before / len(two_layers()) <= 1


def test_a_branch_that_hands_its_input_on_takes_nothing():
    graph = Record("SubGraph", tensors=[Record("Tensor"), Record("Tensor")])
    graph["inputs"], graph["outputs"] = np.array([0, 1], "<i4"), np.array([1], "<i4")
    model = Record("Model", subgraphs=[graph], buffers=[Record("Buffer")])
    assert live_bytes(model) == [[]] and arena_estimate(model) == 0


def test_where_nothing_is_won_it_says_so():
    file = MicroFile()
    x = file.tensor((1, 4))
    explanation = explain_flash(file.end([x], [file.dense(x, np.ones((3, 4)))]), "f")
    assert explanation.layers == ()
    assert "No constant of 64 numbers" in explanation.problems[0]
    assert "Its largest has 12 numbers" in explanation.problems[0]
    assert "int8" not in explanation.problems[0]


def test_a_file_without_weights_says_so():
    file = MicroFile()
    ends = [file.tensor((1, 4))]
    (problem,) = explain_flash(file.end(ends, ends), "f").problems
    assert problem.endswith("no weights, so there is nothing to pack.")


def test_a_model_is_explained_by_its_layers(tmp_path, capsys):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16, name="few")])
    kernel = np.sign(model.layers[0].kernel.numpy()) * 0.25
    model.layers[0].kernel.assign(np.where(np.arange(16) < 8, kernel, 0))
    explanation = penjing.explain_sparsity(model, "micro")
    (row,) = explanation.layers
    assert row.layer.endswith("few") and row.levels == 3 and row.sparsity == 0.5
    assert row.weight.form == "huffman" and row.weight.flash_after < 256
    exported = penjing.export_litert(
        model,
        tmp_path / "few.tflite",
        "int8",
        runtime="micro",
        representative_data=np.random.default_rng(0).normal(size=(8, 64)),
        verify=False,
    )
    # Other data, and so other scales, but nothing else.
    assert abs(exported.stat().st_size - explanation.flash_before) < 64
    path = tmp_path / "two.tflite"
    path.write_bytes(two_layers())
    result = CliRunner().invoke(app, ["inspect", str(path), "--runtime", "micro"])
    assert result.exit_code == 0, result.output
    assert "huffman" in result.output and "change:" in result.output
    assert "an arena of" in " ".join(result.output.split())
