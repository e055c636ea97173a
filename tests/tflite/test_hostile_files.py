"""Corrupt and hostile files give one clear error: no crash, hang or flood of memory."""

from __future__ import annotations

import random
import resource
import struct
import time
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

import penjing
from penjing.errors import FileFormatError
from penjing.runtime import trials
from penjing.shrinking.shrinking import shrink_litert
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once

DATA = Path(__file__).parents[1] / "data/mlperf_tiny/keyword_spotting.tflite"


@pytest.fixture(scope="module")
def sound():
    with open(DATA, "rb") as file:
        return file.read()


def mutate(data, generator):
    """Cut, flip, overwrite, point elsewhere or move a piece of a file."""
    data = bytearray(data)
    # Tables come first in what converters write: aim most changes at them.
    for _ in range(generator.choice((1, 1, 2, 8))):
        place = int(generator.random() ** 3 * (len(data) - 8))
        kind = generator.randrange(6)
        if kind == 0:
            data[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            huge = generator.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, len(data)))
            struct.pack_into("<I", data, place & ~3, huge)
        elif kind == 2:
            struct.pack_into("<I", data, place & ~3, generator.randrange(64))
        elif kind == 3:
            struct.pack_into("<i", data, place & ~3, -generator.randrange(len(data)))
        elif kind == 4:
            other = generator.randrange(len(data) - 64)
            data[place : place + 64] = data[other : other + 64]
        else:
            del data[max(place, 64) :]
            break
    return bytes(data)


def test_mutated_files_are_read_or_refused(sound):
    generator = random.Random(1)
    compact = write_records(load_records(sound, "it"))
    read = refused = 0
    begin = time.perf_counter()
    for number in range(900):
        content = mutate(compact if number % 2 else sound, generator)
        try:
            write_records(load_records(content, "it"))
            read += 1
        except FileFormatError as error:
            assert str(error).startswith("it "), error
            refused += 1
    assert read > 60 and refused > 180
    assert time.perf_counter() - begin < 60


def test_mutated_files_are_shrunk_or_refused_and_left_alone(sound, tmp_path):
    generator = random.Random(2)
    path = tmp_path / "model.tflite"
    shrunk = refused = 0
    for _ in range(12):
        content = mutate(sound, generator)
        path.write_bytes(content)
        try:
            report = shrink_litert(path, tmp_path / "out.tflite", keep_names=True)
        except penjing.CompressionError:
            refused += 1
            assert path.read_bytes() == content
            continue
        shrunk += 1
        assert report.gzip_after <= report.gzip_before
    assert shrunk and refused
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.tflite", "out.tflite"]


def many_pointers(count):
    """A file of `count` subgraphs that are all the same one, of `count` operators."""
    builder = flatbuffers.Builder(0)
    builder.StartObject(0)
    operator = builder.EndObject()
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(operator)
    operators = builder.EndVector()
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(3, operators, 0)
    graph = builder.EndObject()
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(2, graphs, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


def test_tables_that_multiply_are_refused_before_memory_is_full():
    begin = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for count in (3000, 100_000):  # 9 million and 10**10 operators
        with pytest.raises(FileFormatError, match="too often|more than 500,000"):
            load_records(many_pointers(count), "it")
    assert time.perf_counter() - begin < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


def test_a_table_that_points_at_itself_is_refused(sound):
    content = bytearray(sound)
    root = struct.unpack_from("<I", content, 0)[0]
    fields = root - struct.unpack_from("<i", content, root)[0]
    size = struct.unpack_from("<H", content, fields)[0]
    for slot in range((size - 4) // 2):
        place = struct.unpack_from("<H", content, fields + 4 + 2 * slot)[0]
        if slot in (1, 2, 4):
            struct.pack_into("<i", content, root + place, -place)
    with pytest.raises(FileFormatError, match="corrupt"):
        load_records(bytes(content), "it")


def run(content):
    with trials.FileRunner() as runner:
        return runner.run(content, [], "it")


def test_a_file_that_never_ends_is_stopped(sound, monkeypatch, tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "class Worker:\n    def try_out(self, **_):\n        while True: pass\n"
    )
    monkeypatch.setattr(trials.FileRunner, "source", str(worker))
    monkeypatch.setenv("PENJING_LIMITS", "0.01")
    said = "for more than [12] seconds .*`verify=False` .*PENJING_LIMITS=4"
    with pytest.raises(FileFormatError, match=said):
        run(sound)


def test_a_crash_of_the_runtime_is_one_error(sound, monkeypatch, tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text("import os\nos.abort()")
    monkeypatch.setattr(trials.FileRunner, "source", str(worker))
    with pytest.raises(FileFormatError, match=r"LiteRT crashes on it \(exit code -6\)"):
        run(sound)


def test_a_trial_cannot_take_more_memory_than_it_may(sound, monkeypatch):
    monkeypatch.setenv("PENJING_LIMITS", "0.0005")
    with pytest.raises(FileFormatError, match="LiteRT crashes on it|cannot run it"):
        run(sound)


def test_parts_that_never_run_may_be_malformed(sound, tmp_path):
    """A dense layer without inputs, in a graph that nothing calls: noted, and left."""
    model = load_records(sound, "it")
    dense = next(
        op.copy()
        for op in model["subgraphs"][0]["operators"]
        if operator_code(model, op) == Operator.FULLY_CONNECTED
    )
    dense["inputs"] = dense["inputs"][:0]
    dense["outputs"] = np.zeros(1, "<i4")
    tensors = [model["subgraphs"][0]["tensors"][0].copy()]
    graph = Record("SubGraph", operators=[dense], tensors=tensors)
    model["subgraphs"] = [*model["subgraphs"], graph]
    path, out = tmp_path / "model.tflite", tmp_path / "out.tflite"
    path.write_bytes(write_records(model))
    report = shrink_litert(path, out)
    notes = {step.name: step.note for step in report.steps}
    assert notes["dead units"] == "the file is built in an unusual way"
    assert notes["unit order"] == "the file is built in an unusual way"
    assert report.gzip_after < report.gzip_before and report.difference == 0.0


def test_files_that_are_none_are_refused(tmp_path):
    path = tmp_path / "a.tflite"
    with pytest.raises(FileFormatError, match="There is no file"):
        shrink_litert(path)
    path.write_bytes(b"")
    with pytest.raises(FileFormatError, match="is empty"):
        shrink_litert(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(FileFormatError, match="lacks the mark TFL3"):
        shrink_litert(path)
