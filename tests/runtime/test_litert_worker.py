"""What the worker answers, asked in this process."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

import penjing
from penjing.runtime import litert_worker
from penjing.runtime.litert_worker import Worker

pytestmark = pytest.mark.once

KERNELS = ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")


def samples(count, seed=0):
    size = (count, 12, 12)
    return np.random.default_rng(seed).uniform(size=size).astype("float32")


@pytest.fixture
def file(converted):
    return str(converted / "float.tflite")


def shape_of(file, batch):
    (spec,) = penjing.LiteRTModel(file).inputs
    return (batch, *spec.shape[1:])


def test_it_needs_neither_keras_nor_penjing():
    tree = ast.parse(Path(litert_worker.__file__).read_text())
    names = {alias.name for n in ast.walk(tree) for alias in getattr(n, "names", [])}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not [name for name in names if name.split(".")[0] in ("keras", "penjing")]


def test_a_file_is_described_and_gives_the_same_with_all_kernels(file):
    shapes = [shape_of(file, batch) for batch in (3, 1)]
    rounds = [[np.ones(shape, "float32")] for shape in shapes]
    answer = Worker().try_out(file, KERNELS, rounds)
    description = answer["description"]
    (given,) = description["inputs"]
    assert (given["dtype"], given["scales"]) == ("float32", [])
    assert given["signature"] == [-1, *shapes[0][1:]]
    assert description["delegated"]
    assert not {"CONV_2D", "FULLY_CONNECTED"} & set(description["left_over"])
    for outputs in answer["outputs"]:
        for (array,), inputs in zip(outputs, rounds, strict=True):
            expected = penjing.LiteRTModel(file).predict(inputs[0])
            np.testing.assert_allclose(array, expected, atol=1e-5)


def test_inputs_that_a_file_refuses_are_told_and_the_next_ones_run(tmp_path):
    import keras

    path = tmp_path / "ids.tflite"
    ids = keras.Input((2,), dtype="int32", batch_size=1)
    penjing.export_litert(keras.Model(ids, keras.layers.Embedding(4, 3)(ids)), path)
    inside, outside = (np.array([[0, n]], "int32") for n in (3, 99))
    answer = Worker().try_out(str(path), KERNELS, [[inside], [outside], [inside]])
    for outputs in answer["outputs"]:
        assert [type(given) for given in outputs] == [list, str, list]
        np.testing.assert_array_equal(outputs[0][0], outputs[2][0])


def test_a_loaded_file_is_weighed_and_timed_in_blocks(file, monkeypatch):
    worker = Worker()
    (given,) = worker.load(file, 1)["inputs"]
    assert given["dtype"] == "float32"
    memory = worker.weigh([np.ones(shape_of(file, 2), "float32")])["memory"]
    assert memory >= 0 if sys.platform == "linux" else memory is None
    runs = []
    worker._interpreter = type("Counted", (), {"invoke": lambda _: runs.append(1)})()
    assert len(worker.time(5, False)["nanoseconds"]) == 5
    assert len(runs) == 6, "the first one is not counted"
    monkeypatch.setattr(litert_worker, "_CACHE_BYTES", 80)
    assert len(worker.time(2, True)["nanoseconds"]) == 2
    assert len(runs) == 8
    np.testing.assert_array_equal(worker._cache, np.full(10, 2.0))


def test_memory_is_unknown_where_nobody_tells(file, monkeypatch, tmp_path):
    monkeypatch.setattr(litert_worker, "_STATUS", tmp_path / "none")
    worker = Worker()
    worker.load(file, 1)
    assert worker.weigh([np.ones(shape_of(file, 1), "float32")]) == {"memory": None}


def test_small_files_are_timed_in_turns_and_broken_ones_passed_over(
    file, tmp_path, monkeypatch
):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(Path(file).read_bytes()[:300])
    turns = []

    def block(call, runs):
        turns.append(runs)
        return [10_000 * len(turns)] * runs

    monkeypatch.setattr(litert_worker, "_block", block)
    answer = Worker().time_many([file, str(broken)], 1, rounds=4, nanoseconds=50_000)
    assert turns == [2, 5, 5, 5, 5]
    # Blocks of 20, 30, 40 and 50 microseconds: a quarter lies below 27.5.
    assert answer == {"nanoseconds": [27_500.0, None]}
