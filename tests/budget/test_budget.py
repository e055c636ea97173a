"""Budgets as people write them."""

import pytest

from penjing.budget.budget import Budget

pytestmark = pytest.mark.once


def test_bytes_count_compressed_unless_they_lie_in_flash():
    assert Budget().objective == "gzip"
    assert Budget(max_bytes="20KB").objective == "raw"
    assert Budget(max_bytes="20KB", compressed=True).objective == "gzip"
    assert Budget(runtime="micro").objective == "raw"
    assert Budget(max_latency="1ms").objective == "latency"
    assert Budget(runtime="micro", max_arena="8KB").objective == "arena"
    assert Budget(runtime="micro", max_arena="8KB", max_bytes=9).objective == "raw"


def test_time_ends_a_search_unless_trials_do():
    assert Budget().seconds == 900
    assert Budget(trials=3).seconds is None
    assert Budget(trials=3, time="2min").seconds == 120


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"runtime": "xl86"}, "Did you mean 'x86'"),
        ({"minimize": "byte"}, "Did you mean 'bytes'"),
        ({"max_arena": "3KB"}, "is for runtime='micro'"),
        ({"minimize": "arena"}, "is for runtime='micro'"),
        ({"max_latency": "1ms", "runtime": "arm"}, "needs a clock"),
        ({"minimize": "latency", "runtime": "micro"}, "needs a clock"),
        ({"compressed": True, "runtime": "micro"}, "nobody unzips"),
        ({"trials": 0}, "`trials` must be an integer of at least 1"),
        ({"time": "soon"}, "`time` must be a time"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Budget(**arguments)
