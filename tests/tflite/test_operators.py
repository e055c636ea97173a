"""Operators have the schema's names and numbers, whatever the age of the file."""

from __future__ import annotations

import pytest
from ai_edge_litert import schema_py_generated as schema

from penjing.tflite.operators import (
    Operator,
    code_index,
    make_operator_code,
    operator_code,
    operator_name,
    operators,
)
from penjing.tflite.records import Record

pytestmark = pytest.mark.once

RUN = Record("Operator", opcode_index=0)


def model_of(**fields):
    return Record("Model", operator_codes=[Record("OperatorCode", **fields)])


def test_names_and_numbers_are_those_of_the_runtime():
    theirs = {k: v for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    assert len(theirs) > 200
    assert {item.name: int(item) for item in Operator} == theirs


def test_old_files_keep_the_number_in_another_field():
    assert operator_code(model_of(deprecated_builtin_code=3), RUN) == Operator.CONV_2D
    assert operator_code(model_of(builtin_code=9), RUN) == Operator.FULLY_CONNECTED
    both = model_of(deprecated_builtin_code=127, builtin_code=150)
    assert operator_name(both, RUN) == "GELU"


@pytest.mark.parametrize("number", [len(Operator), 999, -1])
def test_an_operator_that_is_newer_has_its_number_for_a_name(number):
    assert (
        operator_name(
            model_of(builtin_code=number, deprecated_builtin_code=min(number, 127)), RUN
        )
        == f"operator {number}"
    )


def test_a_code_is_added_once_for_each_version():
    model = model_of(builtin_code=9, version=8)
    assert code_index(model, Operator.FULLY_CONNECTED, 8) == 0
    assert code_index(model, Operator.FULLY_CONNECTED) == 1
    assert code_index(model, Operator.GELU) == 2
    assert code_index(model, Operator.FULLY_CONNECTED) == 1
    assert len(model["operator_codes"]) == 3


def test_late_operators_are_written_so_that_old_readers_refuse_them():
    code = make_operator_code(Operator.GELU, 2)
    assert (code["deprecated_builtin_code"], code["builtin_code"]) == (127, 150)
    assert make_operator_code(Operator.DENSIFY)["deprecated_builtin_code"] == 124


def test_a_misspelled_name_is_noticed():
    assert operators("PAD CONV_2D") == (Operator.PAD, Operator.CONV_2D)
    with pytest.raises(KeyError, match="CONV2D"):
        operators("CONV2D")
