"""The table of what TensorFlow Lite Micro knows is that of the wheel's resolver."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from penjing.tflite.operators import Operator, make_operator_code
from penjing.tflite.records import Record
from penjing.tflite.tflm_operators import (
    TFLM_CUSTOM_OPERATORS,
    TFLM_OPERATORS,
    tflm_method,
)
from penjing.tflite.writing import write_records

pytestmark = pytest.mark.once

# Gives each file's words: TFLM says of the first operator that it does not know.
_SCRIPT = """
import json, os, sys, tempfile
from tflite_micro import runtime
told = []
for file in json.load(sys.stdin):
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            runtime.Interpreter.from_bytes(bytes.fromhex(file), arena_size=2**16)
        except Exception as error:
            os.write(2, str(error).encode())
        log.seek(0)
        told.append(log.read().decode())
print(json.dumps(told))
"""


def code_of(operator):
    if isinstance(operator, Operator):
        return make_operator_code(operator)
    code = make_operator_code(Operator.CUSTOM)
    code["custom_code"] = operator.encode()
    return code


def file_of(operator):
    """An operator, and behind it TILE, which TFLM does not know."""
    options = None
    if operator == Operator.VAR_HANDLE:  # the wheel itself counts their names
        options = Record("VarHandleOptions", shared_name=b"v")
    ends = np.array([0], "<i4")
    made = [
        Record("Operator", opcode_index=n, inputs=ends, outputs=ends) for n in (0, 1)
    ]
    made[0]["builtin_options"] = options
    tensor = Record("Tensor", shape=np.array([1], "<i4"))
    graph = Record(
        "SubGraph", tensors=[tensor], inputs=ends, outputs=ends, operators=made
    )
    codes = [code_of(operator), make_operator_code(Operator.TILE)]
    model = Record(
        "Model",
        version=3,
        operator_codes=codes,
        subgraphs=[graph],
        buffers=[Record("Buffer")],
    )
    return write_records(model)


@pytest.mark.skipif(
    not importlib.util.find_spec("tflite_micro"), reason="needs penjing[micro]"
)
def test_the_table_is_what_the_wheel_knows():
    asked = [op for op in Operator if op not in (Operator.CUSTOM, Operator.TILE)]
    asked += [*TFLM_CUSTOM_OPERATORS, "SomethingElse"]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps([file_of(op).hex() for op in asked]),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    known = {
        op
        for op, words in zip(asked, told, strict=True)
        if re.search(r"Didn't find op for builtin opcode 'TILE'", words)
    }
    assert known | {"ethos-u"} == {*TFLM_OPERATORS, *TFLM_CUSTOM_OPERATORS}


def test_methods_are_named_as_in_the_header():
    methods = [*TFLM_OPERATORS.values(), *TFLM_CUSTOM_OPERATORS.values()]
    assert len(set(methods)) == len(methods)
    assert tflm_method(code_of(Operator.L2_POOL_2D)) == "AddL2Pool2D"
    assert tflm_method(code_of(Operator.SPACE_TO_BATCH_ND)) == "AddSpaceToBatchNd"
    assert tflm_method(code_of("TFLM_DECODE")) == "AddDecode"
    for unknown in (code_of(Operator.TILE), code_of("Mine")):
        assert tflm_method(unknown) is None
    assert tflm_method(Record("OperatorCode", builtin_code=99_999)) is None
