"""Any text gives a name that C++ takes, and a comment that ends where it should."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.firmware.c_names import c_name_of, check_c_name, comment

pytestmark = pytest.mark.once


@settings(max_examples=40)
@given(st.text())
def test_any_text_gives_a_name(text):
    name = c_name_of(text)
    assert check_c_name(name) == name
    assert c_name_of(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("model", "model"),
        ("my-net v2.int8", "my_net_v2_int8"),
        ("3d", "model_3d"),
        ("_x__y_", "x_y"),
        ("class", "class_model"),
        ("模型", "model"),
        ("", "model"),
        ("a" * 200, "a" * 63),
    ],
)
def test_names_are_like_the_texts(text, name):
    assert c_name_of(text) == name


MACROS = [
    "M_PI",
    "M_SQRT1_2",
    "NULL",
    "EOF",
    "INT8_MAX",
    "UINT32_C",
    "INT_MAX",
    "CHAR_BIT",
    "SIZE_MAX",
    "DBL_EPSILON",
    "NAN",
    "INFINITY",
    "SEEK_SET",
    "stdout",
    "EDOM",
    "SIGINT",
    "PRIu32",
    "INT_LEAST8_MAX",
    "RAND_MAX",
    "FP_NAN",
    "LC_ALL",
]


@pytest.mark.parametrize("name", ["ECG", "SIGN", "micro", "LSTM", "INTRO", "M1"])
def test_names_that_only_look_like_macros_are_taken(name):
    assert check_c_name(name) == name == c_name_of(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my-net", "'my_net', got 'my-net': it must have letters"),
        ("2x", "'model_2x', got '2x'"),
        ("", "a letter first"),
        ("_x", "a letter first"),
        ("a__b", "two underscores"),
        ("int", "C[+][+] or the written code has that word"),
        ("std", "C[+][+] or the written code has that word"),
        ("size_t", "'size_t_model', got 'size_t'"),
        ("uint8_t", "C[+][+] or the written code has that word"),
        (3, "'model_3', got 3: it must be a text, not int"),
        *((macro, "has that word already") for macro in MACROS),
        ("x" * 64, "it has 64 characters"),
        ("x\n", "a letter first"),
    ],
)
def test_what_is_no_identifier_is_refused_with_one_that_is(name, reason):
    with pytest.raises(ValueError, match=f"`name` must be a C identifier .*{reason}"):
        check_c_name(name)


@settings(max_examples=40)
@given(st.text())
def test_no_text_leaves_its_comment(text):
    written = comment(text)
    assert written.isascii() and len(written.splitlines()) <= 1
    assert not re.search(r"[\\?]|\*/", written)
