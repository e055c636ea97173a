"""Modules that version 0.1 had elsewhere, and its examples name."""

import importlib

import pytest

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("former", "name"),
    [("penjing.datasets", "load_dataset"), ("penjing.data_sources", "load_data")],
)
def test_the_former_place_gives_the_name_and_says_the_present_one(former, name):
    place = former.replace("penjing.", "penjing.data.")
    with pytest.warns(DeprecationWarning, match=f"{former}.{name} is now {place}"):
        value = getattr(importlib.import_module(former), name)
    assert value is getattr(importlib.import_module(place), name)


def test_a_name_that_was_never_there_is_refused():
    with pytest.raises(AttributeError, match="load_nothing"):
        _ = importlib.import_module("penjing.datasets").load_nothing
