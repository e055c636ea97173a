"""Inputs of every type, within what the types hold."""

from __future__ import annotations

import numpy as np
import pytest

from penjing.errors import DataError
from penjing.runtime.interpreter import TensorSpec
from penjing.runtime.sample_inputs import (
    encode_rounds,
    make_inputs,
    make_rounds,
    random_inputs,
)

pytestmark = pytest.mark.once


def described(dtype="float32", signature=(-1, -1, 3), shape=(1, 1, 3), **quantization):
    return {
        "name": "x",
        "dtype": dtype,
        "shape": list(shape),
        "signature": list(signature),
        "scales": quantization.get("scales", []),
        "zero_points": quantization.get("zero_points", []),
    }


INT8 = {"scales": [0.5], "zero_points": [-3]}


def test_sizes_that_are_free_are_used_or_left_as_stored():
    for free, shapes in ((True, [(4, 32, 3), (1, 32, 3)]), (False, [(1, 1, 3)])):
        rounds = make_rounds([described()], free=free)
        assert len(rounds) == 7
        assert {array.shape for (array,) in rounds} == set(shapes)
    (array,) = make_inputs([described()], batch=9)
    assert array.shape == (9, 32, 3)


def test_rounds_differ_and_are_the_same_each_time():
    one, other = (make_rounds([described()], free=True) for _ in range(2))
    for (mine,), (its,) in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert not np.array_equal(one[0][0], one[2][0])


@pytest.mark.parametrize(
    ("item", "low", "high", "bounds"),
    [
        (described("float32"), -9, 9, (0, -3, 3)),
        (described("int8", **INT8), -128, 127, (-3, -128, 127)),
        (described("uint8"), 0, 255, (0, 0, 1)),
        (described("int32"), 0, 1, (0, 0, 1)),
        (described("bool"), 0, 1, (0, 0, 1)),
    ],
)
def test_values_lie_within_what_the_type_means(item, low, high, bounds):
    rounds = [array for (array,) in make_rounds([item], free=True)]
    random = rounds[0]
    assert random.dtype == item["dtype"]
    assert low <= random.min() < random.max() <= high
    for array, bound in zip(rounds[-3:], bounds, strict=True):
        assert array.dtype == item["dtype"]
        assert (array == bound).all()


def test_random_inputs_are_those_of_numpy():
    spec = TensorSpec(name="x", shape=(2, 3), dtype="float32")
    (array,) = random_inputs([spec], seed=5)
    expected = np.random.default_rng(5).normal(size=(2, 3)).astype("float32")
    np.testing.assert_array_equal(array, expected)
    assert random_inputs([spec], 5, [(7, 3)])[0].shape == (7, 3)


@pytest.mark.parametrize("kind", ["str", "string", "resource", "int4"])
def test_what_is_no_number_is_refused_with_its_type(kind):
    item = described(kind)
    for make in (
        lambda: make_rounds([item], free=True),
        lambda: make_inputs([item], 1),
    ):
        with pytest.raises(DataError, match=f"'x' takes {kind} values, .*numbers"):
            make()


def test_real_inputs_are_cut_into_runs_and_rounded():
    item = described("int8", (2, 3), (2, 3), **INT8)
    data = np.arange(15, dtype="float32").reshape(5, 3)
    rounds = encode_rounds([item], data, "it")
    assert [array.shape for (array,) in rounds] == [(2, 3), (2, 3)]
    np.testing.assert_array_equal(rounds[1][0], 2 * data[2:4] - 3)
    free = encode_rounds([described(signature=(-1, 3), shape=(1, 3))], data, "it")
    assert [array.shape for (array,) in free] == [(5, 3)]
    many = encode_rounds(
        [described(signature=(-1, 3), shape=(1, 3))], np.ones((500, 3)), "it"
    )
    assert [array.shape for (array,) in many] == [(64, 3)]


def test_too_few_real_inputs_are_repeated():
    item = described(signature=(4, 3), shape=(4, 3))
    ((array,),) = encode_rounds([item], np.ones((1, 3)), "it")
    assert array.shape == (4, 3)


@pytest.mark.parametrize(
    "data",
    [
        np.ones((5, 4)),
        np.ones((5, 3, 1)),
        np.ones((0, 3)),
        [np.ones((5, 3)), np.ones((5, 3))],
    ],
)
def test_real_inputs_that_do_not_fit_are_refused(data):
    item = described(signature=(-1, 3), shape=(1, 3))
    with pytest.raises(DataError, match=r"of it, of the shapes .*\('samples', 3\)"):
        encode_rounds([item], data, "it")


def test_a_file_cannot_ask_for_inputs_of_any_size(monkeypatch):
    item = {"name": "x", "dtype": "float32", "scales": [], "zero_points": []}
    item |= {"shape": [1, 3000, 3000], "signature": [-1, 3000, 3000]}
    with pytest.raises(DataError, match=r"of 9,000,000 values.*PENJING_LIMITS=4"):
        make_inputs([item], 1)
    with pytest.raises(DataError, match="of 36,000,000 values"):
        make_rounds([item], free=True)
    monkeypatch.setenv("PENJING_LIMITS", "2")
    assert make_inputs([item], 1)[0].size == 9_000_000
