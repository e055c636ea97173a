"""Differences that are the sum of roundings, and those that only seem so."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import penjing
from penjing.errors import ExportError
from penjing.proof.file_proof import INTEGER_TOLERANCE, prove
from penjing.proof.litert_proof import X86, LiteRTFile, LiteRTSession
from penjing.proof.operator_chain import more_than_rounding
from penjing.runtime.reference_model import ReferenceModel
from penjing.runtime.trials import FileRunner

pytestmark = pytest.mark.once

FILE = Path(__file__).parents[1] / "data/mlperf_tiny/image_classification.tflite"


@pytest.fixture(scope="module")
def undecided():
    """Inputs between two classes, where a step of a layer is a tenth of the output."""
    plain = ReferenceModel(FILE)
    shape = (48, *plain.inputs[0].shape[1:])
    x = np.random.default_rng(0).integers(-128, 128, shape).astype("float32")
    x = (x - plain.inputs[0].zero_point) * plain.inputs[0].scale
    sure = plain.predict(x).max(axis=1)
    return x[np.argsort(sure)[:12]]


def test_roundings_that_a_softmax_multiplies_are_no_false_alarm(undecided):
    report = penjing.verify(FILE, "x86", inputs=undecided, samples=12, rounds=1)
    assert report.python_relative_difference > INTEGER_TOLERANCE
    assert report.passed_by == "summed roundings"
    assert "the sum of roundings: each operator is right" in str(report)
    assert penjing.VerifyReport.from_dict(report.to_dict()) == report


def test_what_is_below_the_bound_is_not_looked_into():
    def looked_into(*_):
        raise AssertionError

    unasked = dataclasses.replace(X86, beyond_rounding=looked_into)
    assert prove(unasked, FILE, samples=1, rounds=1).passed_by == "rounding"


class WrongFile(LiteRTFile):
    """Gives more than it should."""

    def run(self):
        return [
            np.clip(array.astype(int) + 30, -128, 127).astype("int8")
            for array in super().run()
        ]


class WrongSession(LiteRTSession):
    """All of its files are wrong."""

    def load(self, content, where):
        file = super().load(content, where)
        file.__class__ = WrongFile
        return file


def test_a_whole_that_is_not_the_chain_of_its_operators_is_wrong():
    wrong = dataclasses.replace(X86, start=WrongSession)
    with pytest.raises(
        ExportError,
        match="is allowed. Each operator is right by itself, but the whole file gives",
    ):
        prove(wrong, FILE, samples=1, rounds=1)


def test_an_operator_that_is_wrong_by_itself_is_named(monkeypatch):
    def add_steps(self, content, rounds, where, **options):
        outcome = run(self, content, rounds, where, **options)
        if "ADD" in where and rounds:
            (output,) = outcome.outputs[0][0]
            output += np.where(output > 0, -3, 3).astype("int8")
        return outcome

    run = FileRunner.run
    monkeypatch.setattr(FileRunner, "run", add_steps)
    x = np.zeros((1, 32, 32, 3), "int8")
    runs = [([x], [np.zeros((1, 10), "int8")])]
    said = more_than_rounding(FILE.read_bytes(), "f", runs)
    assert re.match(
        "ADD .* differs by more than rounding where it runs by itself", said
    )
