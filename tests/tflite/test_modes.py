"""One table of modes: what others know of them comes from there."""

from __future__ import annotations

import typing

import pytest

import penjing
from penjing.export.verification import TOLERANCES
from penjing.pipeline import recipe
from penjing.runtime.product_files import PRODUCT_MODES
from penjing.tflite.modes import MODES, find_mode, listed, mode_named

pytestmark = pytest.mark.once
BY_NAME = {mode.name: mode for mode in MODES}


def names(condition):
    return {mode.name for mode in MODES if condition(mode)}


def test_each_mode_is_found_by_its_name_and_by_its_argument():
    assert find_mode(None) is mode_named("float32")
    assert len(BY_NAME) == len({mode.title for mode in MODES}) == len(MODES)
    for mode in MODES:
        assert find_mode(mode.quantization) is mode is mode_named(mode.name)


def test_recipes_tolerances_and_documents_know_each_mode():
    assert typing.get_args(recipe.Quantization) == tuple(BY_NAME)
    assert {find_mode(key).name for key in TOLERANCES} == set(BY_NAME)
    for mode in MODES:
        told = mode.quantization is None or f'"{mode.name}"'
        assert told is True or told in penjing.export_litert.__doc__


def test_what_follows_from_the_types():
    assert names(lambda mode: mode.needs_calibration) == {"int8", "int16x8", "int8x4"}
    assert names(lambda mode: mode.has_int8_activations) == {"int8", "int8x4"}
    assert names(lambda mode: not mode.has_integer_weights) == {"float32", "float16"}
    assert names(lambda mode: mode.weight_bits == 4) == {
        "int4",
        "int4_weight_only",
        "int8x4",
    }
    assert {mode.quantization for mode in PRODUCT_MODES} == {None, "dynamic", "int8"}
    assert BY_NAME["int16x8"].allowed_types == ("float32", "int16")
    assert BY_NAME["dynamic"].allowed_types == ("float32",)


def test_integer_weights_say_why_no_sparse_kernel_takes_them():
    for mode in MODES:
        assert bool(mode.no_sparse) == mode.has_integer_weights


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ("int3", r"Unknown `quantization` 'int3'\. Allowed: None, 'dyn.* mean 'int8'"),
        ("int2", "give NaN with int2 weights: take"),
        ("float32", r"'float32'\. Files are float32 with quantization=None\. Allowed"),
        (["int8"], r"Unknown `quantization` \['int8'\]"),
        (True, r"Unknown `quantization` True\. .*'int8x4'\.$"),
    ],
)
def test_other_names_are_refused_with_the_nearest(quantization, message):
    with pytest.raises(ValueError, match=message):
        find_mode(quantization)


def test_modes_are_listed_as_sentences_need_them():
    assert listed(MODES[:1]) == '"float32"'
    assert listed(MODES[:3], "and") == '"float32", "dynamic" and "float16"'
