"""Turns, blocks and what is refused; the clock is a list."""

from __future__ import annotations

import pytest

from penjing.progress import Progress
from penjing.runtime.timing_rounds import check_rounds, checked_files, take_turns

pytestmark = pytest.mark.once


class File:
    def __init__(self, name, milliseconds, log):
        self.name, self.milliseconds, self.log = name, milliseconds, log

    def time(self, runs, *, cold_caches=False):
        self.log.append((self.name, runs, cold_caches))
        return [self.milliseconds] * runs


def test_who_begins_changes_and_warm_up_is_not_counted():
    log, seen = [], []
    files = {name: File(name, 1.0, log) for name in "abc"}
    measured = take_turns(files, rounds=2, warm_up=2, runs=4, progress=seen.append)
    assert "".join(name for name, _, _ in log) == "bca" + "cab" + "abc" + "bca"
    assert measured == {name: [[1.0] * 4] * 2 for name in "abc"}
    stages = [(item.done, item.total) for item in seen]
    assert stages == [(0, 2), (0, 2), (0, 2), (1, 2), (2, 2)]
    assert all(isinstance(item, Progress) and item.stage == "Timing" for item in seen)


@pytest.mark.parametrize(
    ("milliseconds", "cold", "runs"),
    [(4.0, False, 5), (1000.0, False, 1), (1e-9, False, 200), (4.0, True, 5)],
)
def test_a_block_takes_about_20_milliseconds(milliseconds, cold, runs):
    log = []
    files = {"a": File("a", milliseconds, log)}
    take_turns(files, rounds=1, warm_up=0, cold_caches=cold)
    assert log == [("a", 5, cold), ("a", runs, cold)]


def test_files_are_named_once():
    assert checked_files("one.tflite") == ["one.tflite"]
    with pytest.raises(ValueError, match="at least one .tflite file, got none"):
        checked_files([])
    with pytest.raises(ValueError, match="names a file twice"):
        checked_files(["a", "b", "a"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rounds": 0}, "`rounds` must be 1 or more, got 0"),
        ({"runs": 2.5}, "`runs` must be 1 or more, got 2.5"),
        ({"warm_up": None}, "`warm_up` must be 0 or more rounds, got None"),
        ({"batch": -1}, "`batch` must be 1 or more, got -1"),
    ],
)
def test_numbers_that_are_out_of_range_are_refused(changed, message):
    fine = {"rounds": 1, "runs": None, "warm_up": 0, "batch": 1}
    check_rounds(**fine)
    with pytest.raises(ValueError, match=message):
        check_rounds(**{**fine, **changed})
