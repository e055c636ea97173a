"""Files that take turns in WebAssembly; how long they take is never tested."""

import numpy as np
import pytest
from tests.sparse.sparse_topologies import build_topology, sparse_unchecked
from tests.web.wasm_engines import needs_node

import penjing
from penjing.errors import FileFormatError
from penjing.runtime.interpreter import TensorSpec
from penjing.specializing import specialize
from penjing.tflite.loading import load_records
from penjing.web import wasm_latency
from penjing.web.wasm_latency import fixed_content, measure_wasm_latency

pytestmark = pytest.mark.once


class FakeSession:
    """Files take as many milliseconds as their names have letters."""

    runtime = "a runtime 1.0"
    log: list[tuple[str, str]] = []

    def __init__(self, engine, *, threads):
        self.log.append(("start", f"{engine} {threads}"))

    def load(self, content, where):
        assert not np.any(
            [
                tensor["shape_signature"].min(initial=0) < 0
                for tensor in tensors(content)
            ]
        )
        return FakeFile(where.rpartition("/")[2], self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.append(("end", ""))


class FakeFile:
    inputs = (TensorSpec(name="x", shape=(1, 2), dtype="float32"),)

    def __init__(self, name, log):
        self.name, self.log = name, log

    def feed(self, arrays):
        assert [array.shape for array in arrays] == [(1, 2)]
        self.log.append(("feed", self.name))

    def time(self, runs, *, cold_caches=False):
        assert not cold_caches
        self.log.append((f"run {runs}", self.name))
        return [float(len(self.name))] * runs


def tensors(content):
    return load_records(content, "it")["subgraphs"][0]["tensors"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file that leaves its batch free, and a sparse one."""
    folder = tmp_path_factory.mktemp("files")
    free, sparse = folder / "a.tflite", folder / "bc.tflite"
    penjing.export_litert(build_topology("mobilenet", size=64), free)
    fixed = specialize(free.read_bytes())
    assert fixed != free.read_bytes()
    sparse.write_bytes(sparse_unchecked(fixed))
    return [free, sparse]


@pytest.fixture
def log(monkeypatch):
    monkeypatch.setattr(wasm_latency, "WasmSession", FakeSession)
    monkeypatch.setattr(FakeSession, "log", [])
    return FakeSession.log


def test_files_are_fed_and_take_turns_in_one_session(files, log):
    seen = []
    report = measure_wasm_latency(
        files, rounds=2, runs=3, warm_up=1, threads=2, progress=seen.append
    )
    a, bc = "a.tflite", "bc.tflite"
    turns = [("run 3", name) for name in (bc, a, a, bc, bc, a)]
    feeds = [("feed", a), ("feed", bc)]
    assert log == [("start", "node 2"), *feeds, *turns, ("end", "")]
    assert [row.milliseconds for row in report.files] == [8, 9]
    assert [row.bytes for row in report.files] == [f.stat().st_size for f in files]
    assert report.conditions.runtime == "a runtime 1.0"
    assert (report.conditions.rounds, report.conditions.warm_up) == (2, 1)
    assert report.conditions.processor
    assert seen[0] == penjing.Progress(stage="Loading", done=0, total=2)
    assert seen[-1] == penjing.Progress(stage="Timing", done=2, total=2)


def test_the_session_ends_where_a_file_does_not_run(files, log, monkeypatch):
    def fail(self, runs, *, cold_caches=False):
        raise FileFormatError("no")

    monkeypatch.setattr(FakeFile, "time", fail)
    with pytest.raises(FileFormatError, match="no"):
        measure_wasm_latency(files, rounds=1)
    assert log[-1] == ("end", "")


@needs_node
def test_files_are_timed_in_node(files):
    report = penjing.measure_wasm_latency(files, rounds=4, runs=3, warm_up=1)
    assert [row.runs for row in report.files] == [12, 12]
    assert report.files[1].speedup > 0
    assert report.conditions.runtime.startswith("LiteRT.js 2.5.3 in Node")
    assert report.conditions.batch == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": 0}, "`threads` must be 1 or more, got 0"),
        ({"rounds": 0}, "`rounds` must be 1 or more, got 0"),
        ({"runs": 0}, "`runs` must be 1 or more, got 0"),
        ({"warm_up": -1}, "`warm_up` must be 0 or more rounds, got -1"),
    ],
)
def test_impossible_numbers_are_refused(files, log, arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_wasm_latency(files, **arguments)
    assert not log


def test_files_that_it_cannot_take_are_refused(tmp_path, log):
    with pytest.raises(FileFormatError, match="no file"):
        measure_wasm_latency(tmp_path / "missing.tflite")
    with pytest.raises(FileFormatError, match="only .tflite files run in LiteRT.js"):
        fixed_content(tmp_path / "model.keras")
    assert not log
