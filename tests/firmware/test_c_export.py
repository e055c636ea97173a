"""C++ for TFLM: what is written, that a compiler takes it, and what is refused."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.firmware.stub_headers import write_stubs
from tests.packing.micro_files import MicroFile
from tests.runtime.tflm.micro_files import (
    amplified_rounding,
    pruned,
    state_keeping,
    unknown_operator,
    wrong_padding,
)
from typer.testing import CliRunner

import penjing
from penjing.cli.application import app
from penjing.errors import CompressionError, ExportError, FileFormatError
from penjing.firmware import firmware_model
from penjing.packing.packing import pack
from penjing.runtime.tflm import has_tflm, run_in_tflm
from penjing.tflite.operators import Operator

pytestmark = pytest.mark.once
needs_tflm = pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]")
COMPILERS = ("g++", "arm-none-eabi-g++")
FILES = ("{}.h", "{}.cc", "{}_self_test.h", "{}_self_test.cc", "{}_main.cc")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    return write_stubs(tmp_path_factory.mktemp("stubs"))


@pytest.fixture
def dense(tmp_path):
    path = tmp_path / "my-net 2.tflite"
    path.write_bytes(amplified_rounding())
    return path


def compile_all(stubs, folder):
    """Let each compiler that is there check all sources; none is linked."""
    compilers = list(filter(shutil.which, COMPILERS))
    if not compilers:
        pytest.skip("the sources were read, but there is no C++ compiler to check them")
    for compiler in compilers:
        done = subprocess.run(
            [compiler, "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
            + ["-I", stubs, "-I", folder]
            + sorted(map(str, folder.glob("*.cc"))),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr


def numbers(text, array):
    (values,) = re.findall(rf"{array}\[\] = {{\n(.*?)}};", text, re.S)
    return [float(v.strip().rstrip("f")) for v in values.split(",") if v.strip()]


@needs_tflm
def test_a_file_becomes_cpp(dense, tmp_path, stubs):
    folder = tmp_path / "new" / "firmware"
    done = penjing.export_c(dense, folder, name=None)
    assert done.name == "my_net_2"
    assert [str(folder / form.format(done.name)) for form in FILES] == [*done.files]
    assert done.operators == ("AddFullyConnected", "AddQuantize")
    assert done.flash == dense.stat().st_size
    assert done.arena.total < done.arena_size < 1.1 * done.arena.total + 16
    assert done.arena_size % 16 == 0
    assert type(done).from_dict(done.to_dict()) == done
    assert f"kArenaSize = {done.arena_size:,}" in str(done)
    header = (folder / "my_net_2.h").read_text()
    assert "MicroMutableOpResolver<2>" in header
    assert f"g_my_net_2_model_data_size = {done.flash};" in header
    assert "constexpr float kInput0Scale = 0.5f;" in header
    assert "constexpr int kOutput0ZeroPoint = 0;" in header
    source = (folder / "my_net_2.cc").read_text()
    assert "alignas(16) const unsigned char g_my_net_2_model_data[]" in source
    found = bytes(int(byte, 16) for byte in re.findall(r"0x(\w\w)", source))
    assert found == dense.read_bytes()
    compile_all(stubs, folder)


@needs_tflm
def test_the_self_test_is_what_tflm_gives(dense, tmp_path):
    penjing.export_c(dense, tmp_path / "it")
    text = (tmp_path / "it/model_self_test.cc").read_text()
    x = np.array(numbers(text, "kTestInput0"), "i1").reshape(1, 64)
    expected = numbers(text, "kTestOutput0")
    given = run_in_tflm(dense.read_bytes(), [[x]]).outputs[0][0]
    np.testing.assert_array_equal(given.reshape(-1), expected)
    assert len(set(expected)) > 4
    header = (tmp_path / "it/model_self_test.h").read_text()
    assert "kTestOutput0Tolerance = 2;" in header and "TensorFlow Lite Micro" in header


@needs_tflm
@pytest.mark.parametrize("content", ["packed", "state"])
def test_what_needs_more_compiles_too(content, tmp_path, stubs):
    file = tmp_path / "file.tflite"
    file.write_bytes(pack(pruned()).content if content == "packed" else state_keeping())
    done = penjing.export_c(file, tmp_path / "it", name="net")
    main = (tmp_path / "it/net_main.cc").read_text()
    assert ("MicroResourceVariables::Create" in main) == (content == "state")
    assert ("AddDecode" in done.operators) == (content == "packed")
    compile_all(stubs, tmp_path / "it")


@pytest.mark.parametrize("packed", [False, True])
def test_without_tflm_the_arena_is_left_to_the_user(
    packed, tmp_path, monkeypatch, stubs
):
    monkeypatch.setattr(firmware_model, "has_tflm", lambda: False)
    file = tmp_path / "file.tflite"
    file.write_bytes(pack(pruned()).content if packed else pruned())
    done = penjing.export_c(file, tmp_path / "it")
    assert (done.arena, done.arena_size) == (None, 0)
    assert "yours to set" in str(done)
    header = tmp_path / "it/model.h"
    assert "NOT KNOWN" in header.read_text()
    assert "LiteRT by its reference" in (tmp_path / "it/model_self_test.h").read_text()
    if shutil.which("g++"):
        with pytest.raises(AssertionError, match=r"Set kArenaSize in model\.h"):
            compile_all(stubs, tmp_path / "it")
    text = header.read_text().replace("kArenaSize = 0;", "kArenaSize = 4096;")
    header.write_text(text)
    compile_all(stubs, tmp_path / "it")


def test_nothing_is_written_over(dense, tmp_path):
    folder = tmp_path / "it"
    folder.mkdir()
    main = folder / "model_main.cc"
    main.write_text("mine")
    with pytest.raises(CompressionError, match=r"a file .*model_main\.cc already"):
        penjing.export_c(dense, folder)
    assert main.read_text() == "mine" and [*folder.iterdir()] == [main]
    penjing.export_c(dense, folder, name="other")
    penjing.export_c(dense, folder, overwrite=True)
    assert "int main()" in main.read_text()


def test_files_of_two_exports_never_lie_side_by_side(dense, tmp_path, monkeypatch):
    folder = tmp_path / "it"
    penjing.export_c(dense, folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    dense.write_bytes(pruned())
    write = Path.write_bytes

    def full_disk(path, data):
        if b"CountWrong" in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(CompressionError, match=r"_self_test\.h: No space left"):
            penjing.export_c(dense, folder, overwrite=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_a_header_of_another_file_does_not_compile(dense, tmp_path, stubs):
    folder = tmp_path / "it"
    penjing.export_c(dense, folder)
    header = (folder / "model.h").read_text()
    size = dense.stat().st_size
    (folder / "model.h").write_text(header.replace(f"_size = {size};", "_size = 9;"))
    if not any(map(shutil.which, COMPILERS)):
        pytest.skip("needs a C++ compiler")
    with pytest.raises(AssertionError, match=r"model\.h is of another file"):
        compile_all(stubs, folder)


@pytest.mark.parametrize("has", [False, pytest.param(True, marks=needs_tflm)])
def test_outputs_that_are_no_numbers_are_refused(has, tmp_path, monkeypatch):
    monkeypatch.setattr(firmware_model, "has_tflm", lambda: has)
    file = MicroFile()
    x = file.tensor((1, 8), "float32", scales=())
    y = file.tensor((1, 8), "float32", scales=())
    file.operate(Operator.LOG, [x], y)
    path = tmp_path / "log.tflite"
    path.write_bytes(file.end([x], [y]))
    with pytest.raises(ExportError, match="NaN"):
        penjing.export_c(path, tmp_path / "it")
    assert not (tmp_path / "it").exists()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (unknown_operator, FileFormatError, "operator GELU, .* runtime='micro'"),
        pytest.param(
            wrong_padding, ExportError, "wrong in TensorFlow Lite", marks=needs_tflm
        ),
        (lambda: b"no file", FileFormatError, "file"),
    ],
)
def test_a_file_that_does_not_run_is_refused(make, error, message, tmp_path):
    file = tmp_path / "file.tflite"
    file.write_bytes(make())
    with pytest.raises(error, match=message):
        penjing.export_c(file, tmp_path / "it")
    assert not (tmp_path / "it").exists()


def test_names_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="`name` must be a C identifier"):
        penjing.export_c(tmp_path / "none.tflite", tmp_path, name="my-net")


@needs_tflm
def test_the_command_says_what_it_wrote(dense, tmp_path):
    def run(*arguments):
        words = ["export-c", str(dense), str(tmp_path / "it"), *arguments]
        return CliRunner().invoke(app, words)

    printed = " ".join(run().output.split())
    assert all(f"my_net_2{end}" in printed for end in (".h", ".cc", "_main.cc"))
    assert "RAM: kArenaSize = " in printed
    assert "Operators: AddFullyConnected, AddQuantize." in printed
    assert json.loads(run("--overwrite", "--json").output)["name"] == "my_net_2"
    assert "already" in str(run().exception)
    assert "`name` must be a C identifier" in str(run("--name", "2x").exception)
