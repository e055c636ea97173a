"""Native and Python output is caught, and comes back afterwards."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from penjing.runtime.silence import captured_output


def test_output_of_all_kinds_is_caught_and_restored(capfd):
    with captured_output() as caught:
        os.write(2, b"native\n")
        print("python", flush=True)
        print("error", file=sys.stderr, flush=True)
    assert sorted(caught().split()) == ["error", "native", "python"]
    print("after", flush=True)
    assert capfd.readouterr() == ("after\n", "")


def test_output_is_restored_after_an_error(capfd):
    with pytest.raises(KeyError), captured_output():
        raise KeyError("x")
    os.write(1, b"back")
    assert capfd.readouterr().out == "back"


def test_only_the_end_of_a_long_log_is_kept():
    with captured_output() as caught:
        os.write(2, b"x" * 10_000 + b"end")
    assert caught().endswith("end")
    assert len(caught()) == 2000


def test_logger_first_used_inside_goes_on_to_standard_error(capsys):
    with captured_output() as caught:
        handler = logging.StreamHandler()
        handler.emit(logging.makeLogRecord({"msg": "inside"}))
    handler.emit(logging.makeLogRecord({"msg": "outside"}))
    assert caught() == "inside"
    assert capsys.readouterr().err == "outside\n"
