"""Estimates for Ethos-U: what zeros and levels buy there, and what it takes."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import penjing
from penjing.cli import main
from penjing.errors import ExportError, FileFormatError, MissingDependencyError
from penjing.runtime.ethos_u import estimate_by_vela, has_vela, vela_runner
from penjing.sparse.ethos_estimate import explain_for_ethos, is_weight
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.tensors import all_tensors, set_values, values_of

pytestmark = pytest.mark.once
needs_vela = pytest.mark.skipif(not has_vela(), reason="Vela is not installed")

DATA = Path(__file__).parents[1] / "data/mlperf_tiny"
INT8 = DATA / "image_classification.tflite"


def pruned(content, sparsity, levels):
    """The file with most weights zero, and the others of few values."""

    def change(model):
        for tensor in all_tensors(model):
            if is_weight(model, tensor):
                values = values_of(model, tensor).astype(int)
                kept = np.abs(values) >= np.quantile(np.abs(values), sparsity)
                step = 256 // levels
                set_values(
                    model, tensor, ((values // step) * step * kept).astype("int8")
                )

    file = EditedFile(content, "it")
    file.edit(change)
    return file.content


@needs_vela
def test_zeros_and_levels_make_a_file_smaller_than_its_twin():
    plain = explain_for_ethos(INT8.read_bytes(), "plain")
    small = explain_for_ethos(pruned(INT8.read_bytes(), 0.9, 7), "small")
    # Nobody pruned this file: its twin is much like it.
    assert plain.flash_ratio == pytest.approx(1, abs=0.05)
    assert plain.file.flash == pytest.approx(77.0 * 1024, rel=0.02)
    assert plain.cycle_ratio == pytest.approx(1, abs=0.05)
    assert small.twin.flash == pytest.approx(plain.twin.flash, rel=0.01)
    assert small.flash_ratio > 4 and small.cycle_ratio > 1.05
    assert (small.file.cpu_operators, small.problems) == (0, ())
    assert "estimates" in str(small) and "estimates" in small.summary
    stored = json.loads(json.dumps(small.to_dict()))
    assert stored["flash_ratio"] == small.flash_ratio
    assert "Ethos_U55_128" in small.file.conditions


@needs_vela
def test_a_larger_processor_takes_fewer_cycles():
    contents = [INT8.read_bytes()]
    (small,) = estimate_by_vela(contents, "it", "ethos-u55-32")
    (large,) = estimate_by_vela(contents, "it", "ethos-u55-256")
    assert large.cycles < small.cycles / 2
    assert large.milliseconds < small.milliseconds


@needs_vela
def test_models_are_exported_in_int8_and_keras_files_read(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    found = penjing.explain_sparsity(model, "ethos-u")
    assert (found.name, found.runtime) == (model.name, "ethos-u")
    assert found.file.npu_operators > 0
    assert found.flash_ratio == pytest.approx(1, abs=0.1)
    model.save(tmp_path / "model.keras")
    again = penjing.explain_sparsity(tmp_path / "model.keras", "ethos-u")
    assert again.file == found.file


@needs_vela
def test_what_stays_on_the_other_processor_is_said():
    found = explain_for_ethos((DATA / "keyword_spotting.tflite").read_bytes(), "it")
    assert found.file.cpu_operators == 2
    assert "2 operators run on the processor beside Ethos-U" in found.problems[0]


@needs_vela
def test_the_command_prints_estimates(capsys):
    assert main(["inspect", str(INT8), "--runtime", "ethos-u"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Estimates of Vela" in said and "nothing was measured" in said
    assert "less flash" in said
    assert main(["inspect", str(INT8), "--runtime", "ethos-u", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"]["cycles"] > 0


@needs_vela
def test_floats_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "float.tflite"
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    penjing.export_litert(model, path, verify=False)
    with pytest.raises(ExportError, match="computes with integers.*'int8'"):
        penjing.explain_sparsity(path, "ethos-u")
    with pytest.raises(FileFormatError, match="Vela cannot compile it|Vela crashes on"):
        estimate_by_vela([INT8.read_bytes()[:5000]], "it")
    with pytest.raises(ValueError, match="`processor` must be one of.*'ethos-u99'"):
        estimate_by_vela([INT8.read_bytes()], "it", "ethos-u99")


def test_a_missing_vela_and_other_runtimes_are_said(monkeypatch):
    monkeypatch.setattr(vela_runner.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "penjing\[ethos\]"'):
        penjing.explain_sparsity(INT8, "ethos-u")
    with pytest.raises(ValueError, match="'wasm', 'micro', 'ethos-u', got 'ethos'"):
        penjing.explain_sparsity(INT8, "ethos")
