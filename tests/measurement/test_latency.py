"""Times are never tested: what is measured when, and what is said about it, is."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import penjing
from penjing.cli.application import app
from penjing.cli.benchmark_command import operator_table
from penjing.errors import DataError, FileFormatError
from penjing.measurement import latency

pytestmark = pytest.mark.once


class FakeFile:
    """Takes milliseconds by its name, and writes down when it ran."""

    log: list[tuple[str, int, bool]] = []

    def __init__(self, path, *, threads, batch):
        self.path, self.batch, self.memory = path, batch, 10 * len(path)
        self.closed = False

    def time(self, runs, *, cold_caches=False):
        self.log.append((self.path, runs, cold_caches))
        return [float(len(self.path))] * runs

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.append((self.path, 0, False))


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(latency, "TimedFile", FakeFile)
    monkeypatch.setattr(FakeFile, "log", [])
    return FakeFile.log


def test_files_take_turns_and_the_order_turns_too(fake):
    report = latency.measure_latency(["a", "bb", "ccc"], rounds=3, runs=2, warm_up=1)
    order = "".join(path[0] for path, runs, _ in fake if runs)
    assert order == "cab" + "abc" + "bca" + "cab"
    assert [path for path, runs, _ in fake if not runs] == ["ccc", "bb", "a"]
    assert [row.milliseconds for row in report.files] == [1, 2, 3]
    assert [row.speedup for row in report.files] == [1, 1 / 2, 1 / 3]
    assert [row.memory for row in report.files] == [10, 20, 30]
    assert {row.runs for row in report.files} == {6}, "warm-up is not counted"
    assert (report.conditions.rounds, report.conditions.warm_up) == (3, 1)


def test_blocks_have_the_runs_that_fit_or_those_asked_for(fake):
    latency.measure_latency("four", rounds=1, warm_up=0, cold_caches=True)
    assert fake[:2] == [("four", 5, True), ("four", 5, True)]
    fake.clear()
    latency.measure_latency("four", rounds=1, warm_up=0)
    assert fake[:2] == [("four", 5, False), ("four", 20 // 4, False)]
    fake.clear()
    latency.measure_latency("x" * 100, rounds=1, warm_up=0)
    assert fake[1][1] == 1


def test_progress_ends_where_it_should(fake):
    seen = []
    latency.measure_latency(["a", "bb"], rounds=2, runs=1, progress=seen.append)
    assert seen[0] == penjing.Progress(stage="Loading", done=0, total=2)
    assert seen[-1] == penjing.Progress(stage="Timing", done=2, total=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"files": []}, "at least one"),
        ({"files": ["a", "a"]}, "twice"),
        ({"threads": 0}, "`threads` must be 1 or more, got 0"),
        ({"batch": 1.5}, "`batch` must be 1 or more, got 1.5"),
        ({"rounds": 0}, "`rounds`"),
        ({"runs": 0}, "`runs`"),
        ({"warm_up": -1}, "`warm_up`"),
    ],
)
def test_impossible_arguments_are_refused(fake, arguments, message):
    with pytest.raises(ValueError, match=message):
        latency.measure_latency(**{"files": ["a"], **arguments})
    assert not fake


def test_real_files_run_at_any_batch_and_are_weighed(converted):
    files = [converted / "float.tflite", converted / "int8.tflite"]
    report = penjing.measure_latency(files, batch=3, rounds=2, runs=2, warm_up=0)
    assert [row.path for row in report.files] == [str(file) for file in files]
    assert all(row.minimum > 0 and row.runs == 4 for row in report.files)
    assert report.files[0].bytes == files[0].stat().st_size
    assert report.conditions.runtime.startswith("LiteRT ")
    if sys.platform == "linux":
        assert all(0 < row.memory < 2**30 for row in report.files)


def test_what_cannot_run_alone_is_listed_without_a_time(converted, monkeypatch):
    from penjing.runtime import operator_files

    monkeypatch.setattr(operator_files, "_STATEFUL", ("CONV_2D",))
    report = latency.measure_latency(
        converted / "float.tflite", rounds=1, runs=1, profile=True
    )
    times = {item.name: item.milliseconds for item in report.files[0].operators}
    assert times["CONV_2D"] is None and times["FULLY_CONNECTED"] is not None
    tables = operator_table(report.files[0])
    assert "unknown" in list(tables.columns[2].cells)


def test_a_batch_beyond_memory_is_refused(converted):
    with pytest.raises(DataError, match="do not fit into the memory"):
        penjing.measure_latency(converted / "float.tflite", batch=10**12)


def test_what_is_no_litert_file_is_refused(converted, tmp_path):
    junk = tmp_path / "junk.tflite"
    junk.write_bytes(b"nothing of use")
    half = tmp_path / "half.tflite"
    half.write_bytes((converted / "float.tflite").read_bytes()[:2000])
    cases = {
        tmp_path / "none.tflite": "There is no file",
        junk: "not a .tflite file",
        half: "LiteRT cannot run",
        converted / "model.keras": "export_litert",
    }
    for file, message in cases.items():
        with pytest.raises(FileFormatError, match=message):
            penjing.measure_latency([file])


def test_a_fixed_batch_is_told_apart(fake, monkeypatch):
    monkeypatch.setattr(FakeFile, "__init__", _with_batch_of_four)
    with pytest.raises(ValueError, match="pass batch=4"):
        latency.measure_latency(["a"])


def _with_batch_of_four(self, path, **_):
    self.path, self.batch, self.memory = path, 4, None


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The command looks whether files are there before it loads anything."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "bb", "a.tflite", "bbb.tflite"):
        Path(name).write_text("a stand-in")


def run(*arguments):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


def test_the_command_prints_a_table_for_each_number_of_threads(fake, here):
    result = run("a.tflite", "bbb.tflite", "--threads", "1,2", "--rounds", 2)
    assert result.exit_code == 0, result.output
    assert "1 thread, batch 1, warm caches" in result.output
    assert "2 threads" in result.output
    assert "bbb.tflite" in result.output
    assert "0.80x" in result.output


def test_the_command_gives_json(fake, here):
    result = run("a", "bb", "--json", "--cold", "--runs", 1, "--rounds", 2)
    warm, cold = json.loads(result.stdout)
    assert not warm["conditions"]["cold_caches"] and cold["conditions"]["cold_caches"]
    assert [row["milliseconds"] for row in cold["files"]] == [1, 2]


def test_one_round_says_nothing_about_confidence(fake, here):
    result = run("a", "bb", "--rounds", 1)
    assert " 1 round " in result.output
    assert "0.50-0.50" not in result.output
    assert "0.50x" in result.output


def test_the_command_refuses_threads_that_are_no_numbers(fake):
    result = run("a.tflite", "--threads", "many")
    assert result.exit_code == 2
    assert not fake
