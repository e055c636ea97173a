"""Changed files run beside the original, in one process for as long as it lives."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from penjing.errors import FileFormatError
from penjing.runtime import litert_worker, trials
from penjing.runtime.trials import FileRunner, Trial
from penjing.tflite.loading import load_records
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once

DATA = Path(__file__).parents[1] / "data/mlperf_tiny/keyword_spotting.tflite"

# Does what LiteRT's worker does, but dies of a file that says so, each time or only
# where another file ran before.
FRAGILE = """
import importlib.util, os
spec = importlib.util.spec_from_file_location("litert", {worker!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

class Worker(module.Worker):
    ran = False

    def try_out(self, file, kernels, rounds):
        content = open(file, "rb").read()
        if content.endswith(b"dies") or (self.ran and content.endswith(b"dies later")):
            os.abort()
        self.ran = True
        answer = super().try_out(file, kernels, rounds)
        return dict(answer, outputs=[[str(os.getpid())]])
"""


@pytest.fixture
def sound():
    return DATA.read_bytes()


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    path = tmp_path / "worker.py"
    path.write_text(FRAGILE.format(worker=litert_worker.__file__))
    monkeypatch.setattr(trials.FileRunner, "source", str(path))


def process_of(runner, content):
    return int(runner.run(content, [], "it").outputs[0][0])


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_files_run_in_one_process_that_ends_with_the_block(sound, fragile):
    with FileRunner() as runner:
        first = process_of(runner, sound)
        assert process_of(runner, sound) == first != os.getpid()
        assert is_alive(first)
    assert not is_alive(first)


def test_a_larger_file_may_take_more_memory_so_it_gets_another_process(sound, fragile):
    with FileRunner() as runner:
        first = process_of(runner, sound)
        assert process_of(runner, sound + bytes(16)) != first
        assert not is_alive(first)


def test_a_crash_concerns_one_file(sound, fragile):
    with FileRunner() as runner:
        first = process_of(runner, sound + bytes(16))
        with pytest.raises(FileFormatError, match=r"LiteRT crashes on it \(exit code"):
            runner.run(sound + b"dies", [], "it")
        assert process_of(runner, sound) != first


def test_a_crash_that_other_files_caused_is_none(sound, fragile):
    with FileRunner() as runner:
        first = process_of(runner, sound + bytes(16))
        assert process_of(runner, sound + b"dies later") != first


def test_a_trial_tells_changed_bits_from_the_same(sound):
    with Trial(sound, "it") as trial:
        assert trial.difference(sound) == 0.0
        assert trial.difference(write_records(load_records(sound, "it"))) == 0.0
        model = load_records(sound, "it")
        for buffer in model["buffers"]:
            if len(buffer["data"]) > 4000:
                buffer["data"] = np.roll(buffer["data"], 1)
        assert trial.difference(write_records(model)) > 0.01
        assert trial.difference(b"no file") == float("inf")
        assert trial.difference(sound) == 0.0


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_in_one_file_alone_differs(exact, wrong):
    files = [
        trials.Outcome(description={}, outputs=[[[np.array(values, "f4")]]])
        for values in ([1, wrong, 3], [1, 2, 3])
    ]
    for actual, expected in (files, files[::-1]):
        found = trials.output_difference(actual, expected, [0], exact=exact)
        assert found == float("inf")
