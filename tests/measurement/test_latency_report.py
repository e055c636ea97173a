"""What is said of times, against numbers computed by hand and by chance."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.measurement.latency_report import (
    LatencyConditions,
    common_batch,
    summarize_rounds,
)
from penjing.runtime.timing import OperatorTime

pytestmark = pytest.mark.once


CONDITIONS = LatencyConditions(
    runtime="a runtime 1.0",
    processor="a processor",
    threads=1,
    batch=1,
    cold_caches=False,
    rounds=3,
    warm_up=0,
)


def test_statistics_by_hand():
    report = summarize_rounds(
        CONDITIONS,
        {"first": [[4, 6], [5], [9, 1]], "second": [[1, 3], [2], [2]]},
        memory={"first": 7},
        operators={"second": [OperatorTime(name="ADD", shape=(2,), milliseconds=1)]},
    )
    first, second = report.files
    assert (first.milliseconds, first.minimum, first.runs) == (5, 1, 5)
    assert (first.lower_quartile, first.upper_quartile, first.spread) == (4, 6, 2)
    assert (second.milliseconds, second.speedup) == (2, 2.5)
    assert (first.memory, second.memory) == (7, None)
    assert second.operators[0].name == "ADD"
    content = json.loads(json.dumps(report.to_dict()))
    assert content["files"][1]["operators"][0]["milliseconds"] == 1
    assert content["conditions"]["runtime"] == "a runtime 1.0"
    lines = str(report).splitlines()
    assert lines[0] == "a runtime 1.0, 1 thread, batch 1, warm caches, 3 rounds"
    assert "second: 2 ms" in lines[2]


@given(
    st.lists(st.floats(0.5, 50), min_size=2, max_size=20),
    st.floats(0.1, 10),
)
def test_what_disturbs_whole_rounds_leaves_the_ratio_certain(disturbances, factor):
    rounds = {
        "first": [[factor * slow] for slow in disturbances],
        "second": [[slow] for slow in disturbances],
    }
    row = summarize_rounds(CONDITIONS, rounds).files[1]
    for value in (row.speedup, row.speedup_low, row.speedup_high):
        assert math.isclose(value, factor, rel_tol=1e-9)


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says():
    """200 experiments with a true ratio of 2; 95 % +- 4 standard errors, and the
    bootstrap of a median is a little too careful or too bold for 25 rounds."""
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        first = 2 * random.lognormal(0, 0.1, (25, 1))
        second = random.lognormal(0, 0.1, (25, 1))
        row = summarize_rounds(CONDITIONS, {"a": first, "b": second}).files[1]
        covered += row.speedup_low <= 2 <= row.speedup_high
    assert 0.88 <= covered / 200 <= 0.995


def test_unequal_rounds_are_refused():
    for wrong in ({"a": [[1]], "b": [[1], [2]]}, {"a": [[]]}, {}):
        with pytest.raises(ValueError, match="rounds"):
            summarize_rounds(CONDITIONS, wrong)


def test_a_run_of_files_is_compared_at_one_batch():
    one, eight, single = map(np.zeros, ((1, 3), (8, 3), ()))
    assert common_batch({"a": [eight, one], "b": [eight]}) == 8
    assert common_batch({"a": [], "b": [single]}) == 1
    with pytest.raises(ValueError, match="a has 1, b has 8"):
        common_batch({"a": [one], "b": [eight]})
