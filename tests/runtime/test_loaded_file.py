"""Files that crash, never end or ask for everything: one error, and life goes on."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from tests.runtime.hostile_files import endless_file, greedy_file, huge_file
from tests.tflite.tflite_writer import convert

from penjing.errors import CompressionError, DataError, FileFormatError
from penjing.measurement.accuracy import evaluate
from penjing.runtime import file_bounds, loaded_file
from penjing.runtime.interpreter import LiteRTModel

pytestmark = pytest.mark.once
linux = pytest.mark.skipif(sys.platform != "linux", reason="others do not limit memory")

SOUND = Path(__file__).parents[1] / "data/mlperf_tiny/keyword_spotting.tflite"


@pytest.fixture
def put(tmp_path):
    def write(content):
        path = tmp_path / "it.tflite"
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def no_idle():
    loaded_file.end_idle()
    yield
    loaded_file.end_idle()


def process_of(model):
    return model._file._worker.process.pid


def test_a_file_that_never_ends_is_ended(put, monkeypatch):
    monkeypatch.setattr(file_bounds, "_SECONDS", 1)
    model = LiteRTModel(put(endless_file()))
    said = r"it.tflite for more than [12] seconds .*PENJING_LIMITS=4"
    with pytest.raises(FileFormatError, match=said):
        model.predict(np.ones((1, 4), "float32"))


@linux
def test_a_file_that_asks_for_everything_gets_what_it_may(put):
    shape = np.array([10**5, 10**4], "int32")
    path = put(greedy_file())
    with pytest.raises(DataError, match="does not run"):
        LiteRTModel(path).predict(shape)
    with pytest.raises(CompressionError, match="does not run"):
        evaluate(path, shape, np.zeros(2))
    with pytest.raises(FileFormatError, match="memory .*PENJING_LIMITS=4"):
        LiteRTModel(put(huge_file()))


@linux
def test_the_variable_raises_the_limits(put, monkeypatch):
    model = LiteRTModel(put(greedy_file()))
    monkeypatch.setattr(file_bounds, "_OUTPUT_BYTES", 10**6)
    with pytest.raises(DataError, match="outputs have more than"):
        model.predict(np.array([400, 1000], "int32"))
    monkeypatch.setenv("PENJING_LIMITS", "2")
    assert model.predict(np.array([400, 1000], "int32")).nbytes == 1_600_000


@pytest.mark.parametrize("value", ["much", "0", "-1", "nan", "inf"])
def test_a_wrong_limit_is_refused(monkeypatch, value):
    monkeypatch.setenv("PENJING_LIMITS", value)
    with pytest.raises(CompressionError, match=f"PENJING_LIMITS must be .*'{value}'"):
        LiteRTModel(SOUND)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_model_whose_process_was_killed_says_so_and_runs_again(no_idle):
    model = LiteRTModel(SOUND)
    x = np.zeros((1, *model.inputs[0].shape[1:]), "float32")
    expected = model.predict(x)
    os.kill(process_of(model), signal.SIGKILL)
    with pytest.raises(FileFormatError, match=r"crashes on .*\(exit code -9\)"):
        model.predict(x)
    np.testing.assert_array_equal(model.predict(x), expected)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_another_file_at_its_path_is_not_taken_for_it(no_idle, tmp_path):
    path = tmp_path / "mine.tflite"
    shutil.copy(SOUND, path)
    model = LiteRTModel(path)
    x = np.zeros((1, *model.inputs[0].shape[1:]), "float32")
    os.kill(process_of(model), signal.SIGKILL)
    with pytest.raises(FileFormatError, match="crashes on"):
        model.predict(x)
    path.touch()
    with pytest.raises(FileFormatError, match="was changed since it was loaded"):
        model.predict(x)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_after_an_interrupt_the_next_answer_is_its_own(no_idle, monkeypatch):
    model = LiteRTModel(SOUND)
    ones = np.ones((1, *model.inputs[0].shape[1:]), "float32")
    expected = model.predict(ones)
    worker = model._file._worker
    exchanged = worker._exchanged

    def interrupted(order, listen):
        worker.process.stdin.write(order)
        worker.process.stdin.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "_exchanged", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.predict(np.zeros_like(ones))
    monkeypatch.setattr(worker, "_exchanged", exchanged)
    np.testing.assert_array_equal(model.predict(ones), expected)


def test_a_process_serves_one_file_after_the_other(no_idle):
    first = LiteRTModel(SOUND)
    second = LiteRTModel(SOUND)
    numbers = {process_of(first), process_of(second)}
    assert len(numbers) == 2 and os.getpid() not in numbers
    del first, second
    gc.collect()
    assert process_of(LiteRTModel(SOUND)) in numbers


def test_a_fork_leaves_its_parents_processes_alone(no_idle, monkeypatch):
    model, other = LiteRTModel(SOUND), LiteRTModel(SOUND)
    mine, workers = process_of(model), [m._file._worker for m in (model, other)]
    x = np.zeros((1, *model.inputs[0].shape[1:]), "float32")
    expected = model.predict(x)
    real = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: real + 1)
    np.testing.assert_array_equal(model.predict(x), expected)
    assert process_of(model) != mine
    del other
    gc.collect()
    assert process_of(LiteRTModel(SOUND)) not in {w.process.pid for w in workers}
    monkeypatch.undo()
    for worker in workers:
        assert worker.process.poll() is None
        worker.close()


def test_the_same_here_and_elsewhere_from_many_threads(tmp_path):
    path = tmp_path / "sound.tflite"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    path.write_bytes(convert(model))
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    expected = LiteRTModel(path, isolated=False).predict(x)
    shared = LiteRTModel(path)
    found = {}

    def work(number):
        found[number] = shared.predict(x, batch_size=number + 3)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_array_equal(found[number], expected)


def test_a_damaged_file_leaves_the_next_one_alone(tmp_path):
    content = bytearray(SOUND.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(
        len(content) // 2 - len(content) // 3
    )
    (tmp_path / "damaged.tflite").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match="damaged"):
        LiteRTModel(tmp_path / "damaged.tflite")
    assert LiteRTModel(SOUND).inputs


def test_the_child_loads_no_tensorflow(no_idle):
    model = LiteRTModel(SOUND)
    maps = Path(f"/proc/{process_of(model)}/maps")
    if not maps.exists():
        pytest.skip("the system does not tell")
    assert "tensorflow/" not in maps.read_text()
