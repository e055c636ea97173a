"""The runtimes that `penjing.verify` knows, and arguments that it refuses."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.tflm.micro_files import amplified_rounding, pruned, wrong_padding

import penjing
from penjing import cli, file_verification
from penjing.errors import DataError, ExportError, FileFormatError
from penjing.packing.packing import pack
from penjing.runtime.tflm import has_tflm
from penjing.specializing import specialize

pytestmark = pytest.mark.once

FILE = Path(__file__).parent / "data/mlperf_tiny/keyword_spotting.tflite"
needs_tflm = pytest.mark.skipif(not has_tflm(), reason="needs penjing[micro]")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    file = tmp_path_factory.mktemp("fixed") / "fixed.tflite"
    file.write_bytes(specialize(FILE.read_bytes()))
    return file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "phone"}, r"`runtime` must be .*'wasm' or 'x86', got 'phone'"),
        ({"samples": 0}, "`samples` must be 1 or more, got 0"),
        ({"engine": "firefox"}, "`engine` must be one of"),
        ({"tolerance": float("nan")}, "`tolerance` must be 0 or more, got nan"),
        ({"tolerance": "small"}, "`tolerance` must be 0 or more, got 'small'"),
        ({"max_arena": 1}, "`max_arena` is for runtime='micro'"),
        ({"runtime": "micro", "samples": 0}, "`samples` must be 1 or more, got 0"),
        ({"runtime": "micro", "max_arena": 0}, "`max_arena` must be 1 or more, got 0"),
        (
            {"runtime": "micro", "tolerance": -1},
            "`tolerance` must be 0 or more, got -1",
        ),
        (
            {"runtime": "micro", "threads": 2},
            "one thread and no `engine`, .* threads=2",
        ),
        ({"runtime": "micro", "engine": "node"}, "no `engine`, got engine='node'"),
        ({"runtime": "x86", "engine": "node"}, "LiteRT has no `engine`, got 'node'"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message, fixed):
    with pytest.raises(ValueError, match=message):
        penjing.verify(fixed, **arguments)


def test_a_runtime_is_one_row(monkeypatch):
    asked = {}
    monkeypatch.setitem(
        file_verification.RUNTIMES,
        "mine",
        lambda file, **options: asked.update(options, file=file),
    )
    penjing.verify(FILE, "mine", samples=3)
    assert (asked.pop("file"), asked["samples"]) == (FILE, 3)
    expected = inspect.signature(penjing.verify).parameters
    assert {
        **{n: p.default for n, p in expected.items() if n not in ("file", "runtime")},
        "samples": 3,
    } == asked
    with pytest.raises(ValueError, match="must be .*'wasm'.* or 'mine', got 'other'"):
        penjing.verify(FILE, "other")


@needs_tflm
def test_a_file_for_microcontrollers_is_proven(fixed):
    report = penjing.verify(fixed, "micro", samples=1)
    assert (report.runtime, report.samples) == ("TensorFlow Lite Micro", 4)
    assert report.twin is report.difference is report.latency is report.ratio is None
    assert report.python_difference == 0.0
    assert report.micro.flash == fixed.stat().st_size
    assert type(report).from_dict(report.to_dict()) == report
    assert f"an arena of {report.micro.arena.total:,} bytes of RAM" in str(report)
    assert "Operators: AVERAGE_POOL_2D, CONV_2D, " in str(report)


@needs_tflm
def test_a_twin_for_microcontrollers_gives_the_same(fixed):
    report = penjing.verify(fixed, "micro", twin=fixed, samples=1)
    assert (report.twin, report.difference) == (str(fixed), 0.0)
    assert f"twin takes {report.micro.twin_flash:,} bytes of flash" in str(report)


@needs_tflm
def test_a_packed_file_is_compared_with_what_it_decodes_to(tmp_path):
    file = tmp_path / "packed.tflite"
    file.write_bytes(pack(pruned()).content)
    report = penjing.verify(file, "micro")
    assert (report.twin, report.difference) == ("(the same file, not packed)", 0.0)
    assert report.micro.flash < report.micro.twin_flash
    assert report.micro.arena.total > report.micro.twin_arena.total
    assert "TFLM_DECODE" in report.micro.operators
    x = np.random.default_rng(0).normal(size=(2, 64)).astype("f4")
    assert penjing.verify(file, "micro", inputs=x).samples == 2
    for runtime in ("x86", "wasm"):
        with pytest.raises(FileFormatError, match="packed for .* Micro only"):
            penjing.verify(file, runtime)
    wrong = tmp_path / "plain.tflite"
    wrong.write_bytes(pruned(levels=2))
    with pytest.raises(ExportError, match="does not give .* what its twin gives there"):
        penjing.verify(file, "micro", twin=wrong)


@needs_tflm
def test_real_inputs_are_compared_on_microcontrollers(fixed):
    x = np.random.default_rng(0).normal(size=(6, 50, 10, 1)).astype("f4") * 20
    assert penjing.verify(fixed, "micro", inputs=x).samples == 6
    assert penjing.verify(fixed, "micro", inputs=[x], samples=2).samples == 2
    with pytest.raises(DataError, match="has the shape"):
        penjing.verify(fixed, "micro", inputs=x[:, 1:])


@needs_tflm
def test_an_arena_that_does_not_suffice_is_refused_by_how_many_bytes(fixed):
    with pytest.raises(
        ExportError, match=r"an arena of ([\d,]+) bytes .* more than the"
    ):
        penjing.verify(fixed, "micro", max_arena=20_000, samples=1)
    total = penjing.verify(fixed, "micro", samples=1).micro.arena.total
    penjing.verify(fixed, "micro", max_arena=total, samples=1)
    with pytest.raises(ExportError, match=" 1 more than the"):
        penjing.verify(fixed, "micro", max_arena=total - 1, samples=1)


@needs_tflm
def test_a_proof_for_microcontrollers_loads_no_keras(tmp_path):
    """Nor TensorFlow: it takes less than a second."""
    (tmp_path / "file.tflite").write_bytes(amplified_rounding())
    (tmp_path / "wrong.tflite").write_bytes(wrong_padding())
    program = (
        "import sys, penjing.cli as cli; from penjing import verify\n"
        "assert verify('file.tflite', 'micro').micro.steps == 10\n"
        "sys.argv = ['penjing', 'verify', 'file.tflite', '--runtime', 'micro']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.argv[2] = 'wrong.tflite'\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert end.code == 1\n"
        "assert not {'keras', 'tensorflow', 'h5py'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "every tensor" not in done.stdout
    printed = " ".join(done.stdout.split())
    assert "FULLY_CONNECTED 'dense' (operator 0) by 1 step" in printed
    assert "wrong in TensorFlow Lite Micro" in done.stderr


def test_a_file_is_proven_on_this_machine(fixed, tmp_path):
    report = penjing.verify(FILE, "x86", samples=2, rounds=1)
    assert report.runtime.startswith("LiteRT ") and report.samples == 2
    assert report.difference == 0.0 and report.python_difference < 0.05
    assert report.ratio > 0 and report.latency.conditions.threads == 1


@needs_tflm
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            [],
            "Differs by summed roundings from LiteRT's reference kernels on 7 samples",
        ),
        (
            ["--tolerance", "0.5"],
            "Differs by tolerance from LiteRT's reference kernels",
        ),
    ],
)
def test_what_passes_by_more_than_rounding_says_so(tmp_path, capsys, options, words):
    file = tmp_path / "file.tflite"
    file.write_bytes(amplified_rounding())
    assert cli.main(["verify", str(file), "--runtime", "micro", *options]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert words in shown and "The same outputs" not in shown
    assert "CMSIS-NN takes scratch memory on top" in shown
