"""The edge along a line, found in few trials."""

import math

import pytest

from penjing.budget.planning.line_search import next_share

pytestmark = pytest.mark.once
LINE = {"start": 0.1, "least": 0.002, "most": 0.8}


@pytest.mark.parametrize("edge", [0.003, 0.02, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("power", [0.3, 1.0, 3.0])
def test_an_edge_is_found_in_few_trials(edge, power):
    found = {}
    while (share := next_share(found, **LINE)) is not None:
        found[share] = (edge / share) ** power - 1
    assert len(found) <= 9
    good = min(share for share, value in found.items() if value <= 0)
    assert edge <= good <= edge * 1.26


def test_a_line_without_an_edge_ends():
    for value in (-1.0, 1.0, math.inf):
        found = {}
        while (share := next_share(found, **LINE)) is not None:
            found[share] = value
        assert len(found) <= 6
        assert (min if value < 0 else max)(found) == (0.002 if value < 0 else 0.8)


def test_several_at_a_time_are_all_different():
    pending = []
    while (share := next_share({}, pending, **LINE)) is not None:
        pending.append(share)
    assert len(set(pending)) == len(pending) >= 4
    found = {0.4: -1.0, 0.01: 1.0}
    pending = []
    while (share := next_share(found, pending, **LINE)) is not None:
        pending.append(share)
    assert len({*pending}) == len(pending) >= 4
    assert all(0.01 < share < 0.4 for share in pending)


def test_noise_does_not_hold_it_up():
    found = {0.05: 1.0, 0.1: -0.5, 0.2: 0.1, 0.4: -1.0}
    assert 0.2 < next_share(found, **LINE) < 0.4
