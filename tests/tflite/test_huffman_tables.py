"""Prefix codes against their definition, and tables against hostile ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.tflite.huffman_tables import decode_words, encode_words, make_code

pytestmark = pytest.mark.once


class WrongError(Exception):
    pass


def fail(reason):
    raise WrongError(reason)


def one_by_one(data, entries, width, count):
    """The loop of TFLM's decoder: a table, then another where a word is longer."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place, values = 0, []
    for _ in range(count):
        used, offset = width, 0
        index = int(bits[place : place + used], 2)
        place += used
        entry = int(entries[index])
        offset = index
        while not entry & 0x8000:
            used = (entry >> 11 & 15) + 1
            offset += (entry & 0x7FF) + int(bits[place : place + used], 2)
            place += used
            entry = int(entries[offset])
        values.append(np.array(entry & 0xFF, "u1").view("i1"))
        place -= used - (entry >> 11 & 15)
    return np.array(values, "i1")


def counts_of(values):
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def test_frequent_numbers_get_short_words():
    code = make_code({0: 90, 3: 6, -3: 4})
    assert code.lengths == {0: 1, -3: 2, 3: 2}
    assert code.words == {0: 0b0, -3: 0b10, 3: 0b11}
    assert encode_words(np.array([0, 3, 0, -3], "i1"), code)[0] == 0b01101000 << 0 | 0


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=200))
def test_what_is_written_is_read(numbers):
    values = np.array(numbers, "i1")
    code = make_code(counts_of(values))
    data = encode_words(values, code)
    read = decode_words(data, code.entries, code.width, len(values), fail)
    np.testing.assert_array_equal(read, values)
    assert len(data) % 4 == 0
    assert sum(0.5**length for length in code.lengths.values()) <= 1.0


@pytest.mark.parametrize("spread", [0.3, 1, 20, 200])
def test_words_take_less_than_a_bit_more_than_they_must(spread):
    drawn = np.random.default_rng(0).normal(size=5000) * spread
    values = np.clip(np.round(drawn), -128, 127).astype("i1")
    counts = counts_of(values)
    code = make_code(counts)
    shares = np.array(list(counts.values())) / len(values)
    entropy = -(shares * np.log2(shares)).sum()
    bits = sum(code.lengths[symbol] * count for symbol, count in counts.items())
    assert entropy <= bits / len(values) < entropy + 1
    data = encode_words(values, code)
    np.testing.assert_array_equal(
        one_by_one(data, code.entries, code.width, len(values)), values
    )


def test_long_words_need_no_large_table():
    counts = {symbol: 2**symbol for symbol in range(20)}
    code = make_code(counts)
    assert max(code.lengths.values()) == 19
    assert len(code.entries) < 100  # 2**19 with one table
    values = np.repeat(np.arange(20), 3).astype("i1")
    data = encode_words(values, code)
    read = one_by_one(data, code.entries, code.width, len(values))
    np.testing.assert_array_equal(read, values)
    np.testing.assert_array_equal(
        decode_words(data, code.entries, code.width, len(values), fail), values
    )


def test_a_number_more_than_the_bits_hold_is_refused():
    values = np.zeros(32, "i1")
    code = make_code({0: 1})
    data = encode_words(values, code)
    with pytest.raises(WrongError, match="32 bits for 33 numbers"):
        decode_words(data, code.entries, code.width, 33, fail)


@given(st.binary(min_size=4, max_size=64), st.binary(min_size=2, max_size=64))
def test_hostile_tables_are_read_to_an_end_or_refused(data, tables):
    entries = np.frombuffer(tables[: len(tables) // 2 * 2], "<u2")
    data = data[: len(data) // 4 * 4]
    try:
        read = decode_words(data, entries, 3, 8 * len(data) // 2, fail)
    except WrongError:
        return
    assert len(read) == 8 * len(data) // 2
