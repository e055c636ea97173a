"""LiteRT on an emulated ARM processor, next to LiteRT here."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from tests.arm.arm_engines import needs_arm

from penjing.arm import arm_packages
from penjing.arm.arm_packages import ArmFolder
from penjing.arm.arm_session import ArmSession
from penjing.errors import CompressionError, DataError, FileFormatError
from penjing.runtime.interpreter import LiteRTModel
from penjing.runtime.sample_inputs import random_inputs
from penjing.runtime.worker_process import Bounds
from penjing.specializing import specialize

pytestmark = pytest.mark.once

DATA = Path(__file__).parents[1] / "data/mlperf_tiny"


@pytest.fixture(scope="module")
def session():
    with ArmSession() as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of whole int8 and with floats outside, of fixed sizes."""
    folder = tmp_path_factory.mktemp("files")
    for path in DATA.glob("*.tflite"):
        (folder / path.name).write_bytes(specialize(path.read_bytes()))
    return sorted(folder.iterdir())


@needs_arm
def test_int8_outputs_are_those_here_bit_by_bit(session, files):
    """Both files stay loaded in the one process, and take turns."""
    assert session.runtime == "LiteRT 2.3.0 on cortex-a72 in QEMU"
    models = {path: session.load(path.read_bytes(), str(path)) for path in files}
    assert len(models) > 1
    for seed in range(2):
        for path, model in models.items():
            here = LiteRTModel(path)
            inputs = random_inputs(here.inputs, seed)
            model.feed(inputs)
            expected = here.predict(
                [s.decode(a) for s, a in zip(here.inputs, inputs, strict=True)]
            )
            (found,) = model.run()
            np.testing.assert_array_equal(model.outputs[0].decode(found), expected)
            assert model.inputs == here.inputs


@needs_arm
def test_what_does_not_fit_or_load_is_refused_and_the_next_file_runs(session, files):
    content = files[0].read_bytes()
    model = session.load(content, "it")
    with pytest.raises(DataError, match="it takes inputs of the shapes and types"):
        model.feed([np.zeros(3, "float32")])
    with pytest.raises(FileFormatError, match=r"ARM cannot run damaged\.tflite"):
        session.load(content[:300], "damaged.tflite")
    model.feed(random_inputs(model.inputs, 0))
    assert len(model.run()) == 1


@needs_arm
def test_memory_is_bounded(session, files):
    """From outside: QEMU passes on no limit that the program in it sets itself."""
    name, path = session.keep(files[0].read_bytes())
    given = {"name": name, "inputs": [np.zeros((64, 32, 32, 3), "int8")]}
    wide = Bounds(memory=2**31, seconds=9)
    session.ask("open", "it", wide, name=name, file=str(path), threads=1)
    answer = session.ask("run", "it", wide, most=2**30, **given)
    assert answer["outputs"][0].shape == (64, 10)
    narrow = Bounds(memory=0, seconds=9)
    with pytest.raises(FileFormatError, match="on ARM"):
        session.ask("run", "it", narrow, most=2**30, **given)


@needs_arm
def test_a_process_that_ends_is_said():
    with ArmSession("cortex-a76") as running:
        os.kill(running._worker.process.pid, signal.SIGKILL)
        with pytest.raises(FileFormatError, match="ended with exit code -9 at it"):
            running.load(b"any", "it")


def test_a_start_that_fails_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(arm_packages.sys, "platform", "linux")
    arm = ArmFolder(tmp_path)
    arm.qemu.parent.mkdir(parents=True)
    arm.qemu.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    arm.qemu.chmod(0o755)
    with pytest.raises(CompressionError, match="does not start: .*exit code 3. it is"):
        ArmSession(folder=arm)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "node"}, "`engine` must be one of 'cortex-a72'.*got engine='node'"),
        ({"threads": 0}, "`threads` must be 1 or more, got 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ArmSession(**arguments)
