"""Instructions counted in the emulator, and what it takes."""

import contextlib
import sys
from pathlib import Path

import pytest
from tests.arm.arm_engines import needs_counting

import penjing
from penjing.arm import arm_instructions, counting_emulator
from penjing.arm.counting_emulator import QEMU_VARIABLE
from penjing.errors import CompressionError, FileFormatError, MissingDependencyError

pytestmark = pytest.mark.once

DATA = Path(__file__).parents[1] / "data/mlperf_tiny"
FILES = sorted(DATA.glob("*.tflite"))


@needs_counting
def test_instructions_are_those_of_the_kernels():
    """A processor with products of int8 takes less than half of them."""
    told = []
    older = penjing.count_instructions(FILES, runs=2, progress=told.append)
    newer = penjing.count_instructions(
        [str(file) for file in FILES], engine="neoverse-n1", runs=2, progress=False
    )
    assert older.runtime == "LiteRT 2.3.0 on cortex-a72 in QEMU"
    assert [row.path for row in older.files] == [str(file) for file in FILES]
    image, keyword = older.files
    # 12.5 million products, 8 of them in an instruction or two; 2.66 million.
    assert 3e6 < image.instructions < 6e6 and 1e6 < keyword.instructions < 3e6
    assert image.fewer == 1 and keyword.fewer == pytest.approx(2.2, abs=0.2)
    for one, other in zip(older.files, newer.files, strict=True):
        assert 2 < one.instructions / other.instructions < 4
    assert {message.stage for message in told} == {"Counting"}
    assert "instructions" in str(older) and " ms" not in str(older)


class Emulated:
    """Stands in for a session whose emulator counts what it is told."""

    runtime, inputs = "LiteRT on ARM", ()

    def __init__(self, counts):
        self._counts = counts

    def load(self, content, path):
        return self

    def feed(self, inputs):
        pass

    run = close = lambda self: None

    def count(self, runs, counter):
        return self._counts


@pytest.mark.parametrize("counts", [[0, 0, 0], [500, 0, 500], [500, -2, 500]])
def test_a_counter_that_stands_still_is_an_error(counts, monkeypatch):
    @contextlib.contextmanager
    def session(engine, threads):
        yield Emulated(counts), Path("counter")

    monkeypatch.setattr(arm_instructions, "counting_session", session)
    with pytest.raises(CompressionError, match=rf"no instructions .*{FILES[0].name}"):
        penjing.count_instructions(FILES, progress=False)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (None, "takes plugins, and none was found"),
        ("-cpu model", "takes plugins, and .*/qemu-mine takes none"),
    ],
)
def test_a_qemu_without_plugins_is_said(tmp_path, monkeypatch, said, message):
    program = tmp_path / "qemu-mine"
    if said is not None:
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
    monkeypatch.setenv(counting_emulator.QEMU_VARIABLE, str(program))
    with pytest.raises(MissingDependencyError, match=message) as error:
        counting_emulator.find_counting_qemu()
    assert "apt-get install qemu-user" in str(error.value)
    program.write_text("#!/bin/sh\necho '-plugin QEMU_PLUGIN'\n")
    program.chmod(0o755)
    assert counting_emulator.find_counting_qemu() == str(program)


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are for sh")
def test_a_missing_compiler_and_one_that_fails_are_said(tmp_path, monkeypatch):
    qemu = program(tmp_path / "qemu", "echo '-plugin, version 9.1'")
    monkeypatch.setenv(QEMU_VARIABLE, qemu)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="needs a C compiler.*install gcc"):
        penjing.count_instructions(FILES)
    program(tmp_path / "cc", 'echo "no, not with $4"')
    with pytest.raises(CompressionError, match="cc cannot compile .*no, not with -DIN"):
        penjing.count_instructions(FILES)


@pytest.mark.parametrize(
    ("files", "arguments", "error", "message"),
    [
        (FILES, {"runs": 0}, ValueError, "`runs` must be 1 or more, got 0"),
        ([], {}, ValueError, "at least one"),
        ("missing.tflite", {}, FileFormatError, "There is no file missing.tflite"),
        ("a.keras", {}, FileFormatError, "is a Keras model"),
    ],
)
def test_impossible_arguments_are_refused(files, arguments, error, message):
    with pytest.raises(error, match=message):
        penjing.count_instructions(files, **arguments)
