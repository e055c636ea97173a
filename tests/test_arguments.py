"""Arguments are refused in the same words everywhere, with the nearest that goes."""

import re

import numpy as np
import pytest

from penjing.arguments import (
    check_choice,
    check_flag,
    check_integer,
    did_you_mean,
    nearest_name,
    quoted,
    unknown_name,
)

pytestmark = pytest.mark.once


def test_the_nearest_name_is_said_and_a_far_one_is_not():
    assert did_you_mean("metl", ["wood", "metal"]) == " Did you mean 'metal'?"
    assert did_you_mean("metl", {"metal": 1}, form="`{}`") == " Did you mean `metal`?"
    assert did_you_mean("stone", ["wood", "metal"]) == ""
    assert did_you_mean("metl", []) == ""


def test_what_is_no_text_is_compared_by_its_text():
    assert nearest_name(12, [13, 128]) == "128"
    assert nearest_name(None, [None, "none"]) == "None"


def test_the_cutoff_decides_how_far_is_near():
    assert nearest_name("conv", ["conv_block_1"], cutoff=0.4) == "conv_block_1"
    assert nearest_name("conv", ["conv_block_1"]) is None


def test_long_lists_end_in_how_many_there_are_more():
    assert quoted(iter("abc")) == "'a', 'b', 'c'"
    assert quoted("abc", limit=3) == "'a', 'b', 'c'"
    assert quoted("abc", limit=1) == "'a' and 2 more"


def test_an_unknown_name_is_refused_with_all_that_go():
    assert unknown_name("metal", "zink", ["zinc", "tin"]) == (
        "Unknown metal 'zink'. Did you mean 'zinc'? Allowed: 'zinc', 'tin'."
    )


def test_a_choice_is_one_of_the_allowed():
    check_choice("side", "left", ("left", "right"))
    wanted = "`side` must be one of 'left', 'right', got side='lfet'. Did you mean 'le"
    with pytest.raises(ValueError, match=re.escape(wanted)):
        check_choice("side", "lfet", ("left", "right"))


@pytest.mark.parametrize("value", [0, True, 1.0, "1", None])
def test_only_integers_that_are_large_enough_pass(value):
    check_integer("count", np.int32(1), least=1)
    wanted = f"`count` must be an integer of at least 1, got {value!r}. It counts."
    with pytest.raises(ValueError, match=re.escape(wanted)):
        check_integer("count", value, least=1, hint=" It counts.")


@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_only_flags_are_flags(value):
    check_flag("fast", False)
    wanted = f"`fast` must be True or False, got {value!r}."
    with pytest.raises(ValueError, match=re.escape(wanted)):
        check_flag("fast", value)
