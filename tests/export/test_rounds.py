"""How often one export reads and writes the whole file."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.tflite import records, writing

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="one process reads and writes"
    ),
]


@pytest.fixture
def rounds(tmp_path, monkeypatch):
    """Counts tables of whole files that are read, written, and put on the disk."""
    counts = {"read": 0, "written": 0, "stored": 0}
    readers = records._Reader.__init__
    store = Path.write_bytes

    def read(self, buffer, only=None):
        counts["read"] += only is None
        readers(self, buffer, only)

    class Writer(writing._Writer):
        def __init__(self, *arguments):
            counts["written"] += 1
            super().__init__(*arguments)

    def stored(path, data):
        counts["stored"] += path.parent == tmp_path
        return store(path, data)

    monkeypatch.setattr(records._Reader, "__init__", read)
    monkeypatch.setattr(writing, "_Writer", Writer)
    monkeypatch.setattr(Path, "write_bytes", stored)
    return counts


def images(sizes=(10, 10, 3)):
    rng = np.random.default_rng(0)
    return rng.normal(size=(24, *sizes)).astype("float32")


def on_a_grid():
    model = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.DepthwiseConv2D(3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(80),
            layers.Dense(5),
        ]
    )
    grid = penjing.Grid(levels=15, granularity="per_tensor")
    return penjing.strip(penjing.quantize_aware(model, weights=grid))


@pytest.mark.parametrize(
    ("quantization", "reads", "writes"),
    [
        (None, 0, 0),  # the bytes of the converter
        ("float16", 0, 0),
        ("int8", 2, 1),  # the calibrated floats too, whose grids are kept
        ("dynamic", 1, 1),
        ("int4", 1, 1),
        ("int8x4", 2, 1),  # the float file too, whose weights are rounded
    ],
)
def test_a_file_is_read_and_written_once_at_most(
    quantization, reads, writes, rounds, tmp_path
):
    penjing.export_litert(
        on_a_grid(),
        tmp_path / "m.tflite",
        quantization,
        representative_data=images(),
    )
    assert rounds == {"read": reads, "written": writes, "stored": 1}


@pytest.mark.parametrize("quantization", [None, "dynamic", "int8"])
def test_shrinking_reads_no_more_and_writes_what_it_tries(
    quantization, rounds, tmp_path, monkeypatch
):
    tried = []
    run = penjing.runtime.trials.Trial.difference

    def difference(self, content, *arguments, **options):
        tried.append(content)
        return run(self, content, *arguments, **options)

    monkeypatch.setattr(penjing.runtime.trials.Trial, "difference", difference)
    path = penjing.export_litert(
        on_a_grid(),
        tmp_path / "m.tflite",
        quantization,
        representative_data=images(),
        finish="smallest",
    )
    assert rounds["read"] == (2 if quantization == "int8" else 1)  # see above
    assert rounds["stored"] == 1
    assert path.read_bytes() in tried


def test_sparse_encoding_for_a_browser_reads_and_writes_once(rounds, tmp_path):
    path = penjing.export_litert(
        on_a_grid(), tmp_path / "m.tflite", runtime="wasm", verify=False
    )
    assert rounds == {"read": 1, "written": 1, "stored": 1}
    assert penjing.LiteRTModel(path).inputs[0].shape[0] == 1
