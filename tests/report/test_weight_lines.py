"""Vectors that were skipped for the same reason share a line."""

import pytest

from penjing.measurement.weight_report import WeightRow
from penjing.report.weight_lines import weight_lines

pytestmark = pytest.mark.once


def row(path, shape, status="skipped", reason="a vector", zeros=0):
    return WeightRow(path=path, shape=shape, zeros=zeros, status=status, reason=reason)


def test_vectors_share_a_line_and_matrices_do_not():
    rows = [
        row("a/kernel", (3, 4), status="compressed", reason=""),
        row("a/bias", (4,), zeros=4),
        row("b/kernel", (4, 2), reason="excluded"),
        row("b/bias", (2,), zeros=1),
        row("c/kernel", (4, 2), reason="excluded"),
        row("norm/count", (), reason="no weight"),
        row("b/own", (9,), status="compressed"),
    ]
    own, (shared,) = weight_lines(rows)
    assert [line.path for line in own] == [
        "a/kernel",
        "b/kernel",
        "c/kernel",
        "b/own",
        "norm/count",
    ]
    assert (shared.title, shared.reason) == ("2 vectors", "a vector")
    assert (shared.size, shared.zeros, shared.paths) == (6, 5, ("a/bias", "b/bias"))
