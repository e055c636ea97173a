"""Sizes, times and drops as people write them."""

import pytest

from penjing.budget.bounds.quantities import (
    Drop,
    parse_bytes,
    parse_latency,
    parse_time,
)

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20KB", 20480), ("20 KiB", 20480), ("1.5MB", 1572864), (300, 300), ("300", 300)],
)
def test_bytes(text, expected):
    assert parse_bytes("max_bytes", text) == expected


@pytest.mark.parametrize(
    "wrong", ["20 KBs", "", "-3", "0.5", 0, -5, True, None, "nan", 1.5]
)
def test_what_is_no_number_of_bytes_is_refused(wrong):
    with pytest.raises(ValueError, match=r'`max_bytes` must be bytes: .*"20KB", got'):
        parse_bytes("max_bytes", wrong)


def test_times_have_units():
    assert parse_latency("max_latency", "250us") == pytest.approx(250e-6)
    assert parse_time("time", "1.5h") == 5400
    with pytest.raises(ValueError, match=r"`max_latency` must be a time with its unit"):
        parse_latency("max_latency", 2)


@pytest.mark.parametrize("wrong", ["0.5pt", "-1", -1, "200%", 101, True, "%"])
def test_a_drop_is_points_or_percent(wrong):
    assert Drop.parse("1%") == Drop(0.01, relative=True)
    assert Drop.parse(0) == Drop(0.0, relative=False)
    with pytest.raises(ValueError, match="`max_drop` must be points"):
        Drop.parse(wrong)
