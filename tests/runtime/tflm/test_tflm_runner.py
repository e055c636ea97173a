"""Files in TensorFlow Lite Micro: right ones, refused ones and hostile ones."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.hostile_files import endless_file
from tests.specializing.graphs import Graph

from penjing.errors import FileFormatError, MissingDependencyError
from penjing.runtime import tflm
from penjing.runtime.tflm import TflmRunner, run_in_tflm, tflm_runner, tflm_worker
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record

pytestmark = pytest.mark.once

DATA = Path(__file__).parents[2] / "data"
KEYWORDS_FILE = DATA / "mlperf_tiny/keyword_spotting.tflite"
KEYWORDS = KEYWORDS_FILE.read_bytes()
HYBRID = (DATA / "saved_by_0_1/runs/finished/model.tflite").read_bytes()
needs_tflm = pytest.mark.skipif(not tflm.has_tflm(), reason="needs penjing[micro]")


@pytest.fixture(scope="module")
def runner():
    with TflmRunner() as runner:
        yield runner


def samples(count=2):
    generator = np.random.default_rng(0)
    shape = (1, 50, 10, 1)
    return [[generator.normal(size=shape).astype("f4") * 20] for _ in range(count)]


@contextlib.contextmanager
def redirected(log):
    """Standard error of this process, which the worker reads, is a file."""
    errors = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)


@needs_tflm
def test_a_file_runs_and_says_what_its_arena_holds():
    run = run_in_tflm(KEYWORDS, samples())
    assert [array.shape for array in run.outputs[0]] == [(1, 12)]
    assert np.isclose(run.outputs[0][0].sum(), 1.0, atol=0.05)
    assert not np.array_equal(run.outputs[0][0], run.outputs[1][0])
    assert 0 <= run.arena.planning < 16  # rounded up
    assert run.arena.total == run.arena.head + run.arena.tail + run.arena.planning
    assert 20_000 < run.arena.total < 30_000 and run.arena.head > 10_000
    assert run.kept == [] and run.kept_outputs == []


@needs_tflm
def test_the_arena_is_the_smallest_that_the_file_starts_in(runner):
    """Many small tensors: the plan of their places is larger than they are."""
    net = Graph()
    tensors = [net.tensor([1, 4]) for _ in range(60)]
    for before, after in itertools.pairwise(tensors):
        net.add(Operator.RELU, [before], after)
    content = net.content([tensors[0]], [tensors[-1]])
    arena = runner.run(content, [[np.ones((1, 4), "f4")]]).arena
    assert arena.planning > 1000 and f"{arena.planning:,} while it starts" in str(arena)
    start = pytest.importorskip("tflite_micro").runtime.Interpreter.from_bytes
    start(content, arena_size=arena.total).invoke()
    with pytest.raises(RuntimeError):
        start(content, arena_size=arena.total - 16)


@pytest.mark.parametrize("least", [16, 96, 112, 1024, 5008, 8000])
def test_the_smallest_enough_is_found_in_few_tries(least):
    tried = []

    def is_enough(size):
        tried.append(size)
        return size >= least

    assert tflm_worker._least(is_enough, 90, 8000) == max(least, 96)
    assert len(tried) <= 12 and max(tried) < 8000


@needs_tflm
def test_every_tensor_can_be_looked_at(runner):
    run = runner.run(KEYWORDS, samples(), tensors=[22, 33], kept=2)
    assert [array.shape for array in run.kept[0]] == [(1, 25, 5, 64), (1, 12)]
    assert [array.dtype for array in run.kept[0]] == ["int8", "int8"]
    assert not np.array_equal(run.kept[0][0], run.kept[1][0])
    for outputs, others in zip(run.outputs, run.kept_outputs, strict=True):
        np.testing.assert_array_equal(outputs, others)


@needs_tflm
def test_the_reason_of_a_refusal_is_tflms_own(runner):
    with pytest.raises(FileFormatError) as caught:
        runner.run(HYBRID, [[np.zeros((1, 28, 28, 1), "f4")]], where="it.tflite")
    assert str(caught.value).startswith(
        "TensorFlow Lite Micro cannot run it.tflite: Input type: FLOAT32 with filter "
        "type: INT8 not supported. Node FULLY_CONNECTED (number 0) failed to prepare"
    )
    assert "runtime='micro'" in str(caught.value)


@needs_tflm
def test_inputs_that_do_not_fit_are_refused(runner):
    with pytest.raises(FileFormatError, match="Got 2 but expected 4 for input 0"):
        runner.run(KEYWORDS, [[np.zeros((1, 3), "f4")]])


@needs_tflm
def test_a_file_that_ends_the_process_does_not_harm_the_next(runner):
    cut = KEYWORDS[:2000] + bytes(1000)
    with pytest.raises(FileFormatError, match=r"Micro (crashes on|cannot run) cut"):
        runner.run(cut, samples(1), where="cut")
    with pytest.raises(FileFormatError, match="Micro crashes on the file"):
        runner.run(KEYWORDS, samples(1), tensors=[10_000_000], kept=1)
    assert runner.run(KEYWORDS, samples(1)).arena.total > 0


@needs_tflm
def test_a_file_that_gives_nothing_is_refused(runner):
    net = Graph()
    x, y = net.tensor([1, 2]), net.tensor([1, 2])
    net.add(Operator.ADD, [x, x], y, Record("AddOptions"))
    with pytest.raises(FileFormatError, match="cannot run it: It has no outputs"):
        runner.run(net.content([x], []), [[np.zeros((1, 2), "f4")]], where="it")


@needs_tflm
def test_outputs_that_cannot_be_read_are_an_error(monkeypatch):
    def unreadable(_, index):
        raise ValueError("no such type")

    runtime = pytest.importorskip("tflite_micro").runtime
    monkeypatch.setattr(runtime.Interpreter, "get_output", unreadable)
    worker = tflm_worker.Worker()
    with pytest.raises(ValueError, match="no such type"):
        worker.run(str(KEYWORDS_FILE), samples(1), 2**20)


@needs_tflm
def test_files_that_make_tflm_talk_still_tell_of_their_arena(monkeypatch):
    """What it says of the arena comes last, however much it says before."""
    runtime = pytest.importorskip("tflite_micro").runtime
    say = runtime.Interpreter.print_allocations

    def talk(interpreter):
        os.write(2, b"words\n" * 2000)
        say(interpreter)

    monkeypatch.setattr(runtime.Interpreter, "print_allocations", talk)
    worker = tflm_worker.Worker()
    with tempfile.TemporaryFile() as log, redirected(log):
        found = worker.run(str(KEYWORDS_FILE), samples(1), 2**20)
        monkeypatch.setattr(runtime.Interpreter, "print_allocations", lambda _: None)
        with pytest.raises(RuntimeError, match="not say what its arena holds"):
            worker.run(str(KEYWORDS_FILE), samples(1), 2**20)
    assert found["arena"]["total"] > 20_000


@needs_tflm
def test_a_file_without_end_is_ended(monkeypatch):
    bounds = dataclasses.replace(tflm_runner.bounds_for(0), seconds=1)
    monkeypatch.setattr(tflm_runner, "bounds_for", lambda *_, **__: bounds)
    with pytest.raises(FileFormatError, match="Micro runs the file for more than"):
        run_in_tflm(endless_file(), [[np.ones((1, 4), "f4")]])


@needs_tflm
def test_an_arena_beyond_the_limit_says_how_to_get_more(monkeypatch):
    monkeypatch.setattr(tflm_runner, "_ARENA", 20_000)
    with pytest.raises(FileFormatError, match="missing: .*PENJING_LIMITS=4"):
        run_in_tflm(KEYWORDS, samples(1))


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tflm_runner, "has_tflm", lambda: False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(MissingDependencyError, match=r'install "penjing\[micro\]"'):
        run_in_tflm(b"", [])


def test_where_no_wheel_exists_the_error_says_where_one_does(monkeypatch):
    monkeypatch.setattr(tflm_runner, "has_tflm", lambda: False)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(MissingDependencyError, match="this is Darwin on arm64 with"):
        run_in_tflm(b"", [])
