"""The runtimes that `penjing.verify` knows, and arguments that it refuses."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import penjing
from penjing import file_verification
from penjing.proof.file_proof import prove
from penjing.sparse.dense_twin import fix_sizes

pytestmark = pytest.mark.once

FILE = Path(__file__).parent / "data/mlperf_tiny/keyword_spotting.tflite"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "x86"}, "`runtime` must be 'wasm', got 'x86'"),
        ({"samples": 0}, "`samples` must be 1 or more, got 0"),
        ({"engine": "firefox"}, "`engine` must be one of"),
        ({"tolerance": float("nan")}, "`tolerance` must be 0 or more, got nan"),
        ({"tolerance": "small"}, "`tolerance` must be 0 or more, got 'small'"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message, tmp_path):
    file = tmp_path / "fixed.tflite"
    file.write_bytes(fix_sizes(FILE.read_bytes(), "it")[0])
    with pytest.raises(ValueError, match=message):
        penjing.verify(file, **arguments)


def test_a_runtime_is_one_row(monkeypatch):
    asked = {}
    monkeypatch.setitem(file_verification.RUNTIMES, "mine", "a row")
    monkeypatch.setattr(
        file_verification,
        "prove",
        lambda runtime, file, **options: asked.update(options, row=runtime, file=file),
    )
    penjing.verify(FILE, "mine", samples=3)
    assert (asked.pop("row"), asked.pop("file"), asked["samples"]) == ("a row", FILE, 3)
    expected = inspect.signature(prove).parameters
    assert {
        **{n: p.default for n, p in expected.items() if n in asked},
        "samples": 3,
    } == (asked)
    with pytest.raises(ValueError, match="must be 'wasm' or 'mine', got 'other'"):
        penjing.verify(FILE, "other")
