"""Ids of channels: who falls together, who stays and why, and where they lie."""

import numpy as np
import pytest

from penjing.channels.rules.units import UnitTable, connect

pytestmark = pytest.mark.once


def test_components_are_named_by_their_lowest_node():
    rng = np.random.default_rng(0)
    for count, ties in ((1, 0), (50, 20), (200, 180), (500, 499)):
        pairs = rng.integers(0, count, (2, ties))
        wanted = np.arange(count)
        for _ in range(count):
            for one, other in pairs.T:
                wanted[[one, other]] = wanted[[one, other]].min()
            if (wanted[pairs[0]] == wanted[pairs[1]]).all():
                break
        found = connect(count, [(pairs[0], pairs[1])])
        np.testing.assert_array_equal(found, wanted)


def test_ids_are_new_every_time():
    table = UnitTable()
    assert table.new(3).tolist() == [0, 1, 2]
    assert table.new(2).tolist() == [3, 4]
    assert table.labels().tolist() == [0, 1, 2, 3, 4]


def test_tied_ids_have_the_label_of_the_lowest_also_where_shapes_broadcast():
    table = UnitTable()
    ids = table.new(6).reshape(2, 3)
    table.tie(ids[:, :1], ids)
    assert table.labels().tolist() == [0, 0, 0, 3, 3, 3]
    table.tie(np.array([5]), np.array([1]))
    assert table.labels().tolist() == [0] * 6


def test_a_pin_holds_for_all_that_is_tied_and_the_first_reason_counts():
    table = UnitTable()
    first, second, third = table.new(2), table.new(2), table.new(1)
    table.tie(first, second)
    table.pin(second[1:], "it is an output")
    table.pin(first, "it is read as a whole")
    table.pin(np.zeros(0, int), "nothing")
    why, said = table.reasons(table.labels())
    assert [said[i] if i >= 0 else None for i in why] == [
        "it is read as a whole",
        "it is an output",
        "it is read as a whole",
        "it is an output",
        None,
    ]
    assert why[third] == -1
