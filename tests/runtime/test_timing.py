"""Processes that run files when they are told to; times themselves are never tested."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest

from penjing.errors import DataError, FileFormatError
from penjing.runtime import timing
from penjing.runtime.product_files import KernelProduct
from penjing.runtime.timing import TimedFile, time_operators, time_products

pytestmark = pytest.mark.once
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")

# Answers as LiteRT's worker does, but for one thing.
STAND_IN = """
import time

class Worker:
    def load(self, file, threads):
        item = dict(name="x", index=0, shape=[1, 2], signature=[-1, 2])
        return {{"inputs": [dict(item, dtype={dtype!r}, scales=[], zero_points=[])]}}

    def weigh(self, inputs):
        self.shapes = [list(array.shape) for array in inputs]
        return {{"memory": 7}}

    def time(self, runs, cold):
        {time}
        return {{"nanoseconds": [1e6] * runs}}

    def time_many(self, files, threads, rounds, nanoseconds):
        return {{"nanoseconds": [2e6, *[None for _ in files[1:]]]}}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts another script in the place of the worker's."""

    def put(time="pass", dtype="float32", text=STAND_IN):
        script = tmp_path / "worker.py"
        script.write_text(text.format(time=time, dtype=dtype))
        monkeypatch.setattr(timing, "_WORKER", str(script))

    return put


def test_cold_caches_and_threads(converted):
    with TimedFile(converted / "float.tflite", threads=2) as file:
        assert len(file.time(2, cold_caches=True)) == 2
        assert file.batch == 1


def test_a_process_ends_with_its_block(converted):
    with TimedFile(converted / "float.tflite") as file:
        process = file._worker.process
        assert process.poll() is None
    assert process.poll() is not None


def test_a_crash_of_the_runtime_is_an_error_not_a_crash(
    converted, monkeypatch, tmp_path
):
    worker = tmp_path / "worker.py"
    worker.write_text("import os\nos.abort()")
    monkeypatch.setattr(timing, "_WORKER", str(worker))
    with pytest.raises(FileFormatError, match="LiteRT crashes on .*float.tflite"):
        TimedFile(converted / "float.tflite")


def test_milliseconds_memory_and_batch_are_what_the_worker_says(converted, stand_in):
    stand_in()
    with TimedFile(converted / "float.tflite", batch=5) as file:
        assert (file.time(3), file.memory, file.batch) == ([1.0] * 3, 7, 5)


@posix
def test_a_process_that_is_killed_between_blocks_is_noticed(converted):
    with TimedFile(converted / "float.tflite") as file:
        file.time(1)
        os.kill(file._worker.process.pid, signal.SIGKILL)
        with pytest.raises(FileFormatError, match=r"crashes on .*exit code -9"):
            file.time(1)


def test_a_file_that_never_ends_is_stopped(converted, stand_in, monkeypatch):
    for spend in ("time.sleep(600)", "while True: pass"):
        stand_in(spend)
        monkeypatch.setenv("PENJING_LIMITS", "1")
        with TimedFile(converted / "float.tflite") as file:
            monkeypatch.setenv("PENJING_LIMITS", "0.01")
            with pytest.raises(FileFormatError, match="for more than [12] seconds"):
                file.time(1)


def test_what_the_runtime_says_is_said(converted, stand_in):
    stand_in("raise RuntimeError('Node 3 failed.\\nOh dear.')")
    with TimedFile(converted / "float.tflite") as file:
        with pytest.raises(
            FileFormatError,
            match="LiteRT cannot run .*float.tflite: Node 3 failed. Oh dear. The file",
        ):
            file.time(1)
        assert file.memory == 7, "the process goes on"


def test_inputs_that_cannot_be_made_end_the_process(converted, stand_in, monkeypatch):
    closed = []
    close = TimedFile.close
    monkeypatch.setattr(
        TimedFile, "close", lambda self: (closed.append(1), close(self))
    )
    stand_in(dtype="str")
    with pytest.raises(DataError, match="takes str values"):
        TimedFile(converted / "float.tflite")
    assert closed


@pytest.mark.parametrize("name", ["float", "dynamic", "int8", "sparse"])
def test_every_operator_of_a_file_is_timed_by_itself(converted, name):
    operators = time_operators(converted / f"{name}.tflite")
    found = [item.name for item in operators]
    assert found.count("CONV_2D") == 1 and found.count("FULLY_CONNECTED") == 2
    assert operators[found.index("CONV_2D")].shape == (1, 6, 6, 4)
    assert all(item.milliseconds is not None for item in operators)


def test_operators_that_fail_have_no_time_and_the_start_is_taken_off(
    converted, stand_in
):
    stand_in()
    operators = time_operators(converted / "float.tflite")
    assert {item.milliseconds for item in operators} == {None}


def test_products_are_timed_and_one_that_fails_is_named(stand_in):
    products = [KernelProduct(kind="dense", inputs=n, outputs=2) for n in (8, 9)]
    times = time_products(products, None, 1)
    assert all(0 < time < 1000 for time in times)
    stand_in()
    assert time_products(products[:1], None, 1) == [2.0]
    with pytest.raises(FileFormatError, match=r"inputs=9, .* with quantization='int8'"):
        time_products(products, "int8", 1)


def test_a_keras_model_is_refused_with_what_to_do(converted):
    for function in (TimedFile, time_operators):
        with pytest.raises(FileFormatError, match="is a Keras model.*export_litert"):
            function(converted / "model.keras")


def test_inputs_have_the_batch_that_was_asked_for(converted, stand_in):
    with TimedFile(converted / "float.tflite", batch=3) as file:
        assert file.batch == 3
        assert np.all(np.array(file.time(2)) > 0)
