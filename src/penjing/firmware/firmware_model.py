"""What a program for a microcontroller must know of a file."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from penjing.errors import ExportError, FileFormatError
from penjing.firmware.c_names import comment
from penjing.firmware.c_values import C_TYPES, float_text, value_lines
from penjing.packing.packing import restore
from penjing.runtime.reference_runner import ReferenceRunner
from penjing.runtime.tflm import (
    TFLM,
    Arena,
    FileInTflm,
    allowed_difference,
    compare_in_tflm,
    has_tflm,
    run_in_tflm,
)
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tflm_operators import tflm_method

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SelfTest:
    """A sample, the outputs that a file gives for it, and who says so.

    `arena` is what TFLM works in; None where it is not installed.
    """

    inputs: list[Array]
    outputs: list[Array]
    expected_by: str
    arena: Arena | None


class FirmwareModel:
    """A file that TFLM knows all operators of.

    Attributes:
        methods: What adds its operators to a resolver, sorted.
        variables: How many states it keeps between runs.
    """

    def __init__(self, content: bytes, where: str) -> None:
        self._file = FileInTflm(content, where)
        self._where = where
        self.methods = _methods(self._file.model, where)
        self.variables = _variables(self._file.model)

    def self_test(self) -> SelfTest:
        """Run it on a seeded sample, and prove it, where TFLM is installed.

        Outputs that are no finite numbers are an ExportError: no device can be held to
        them.
        """
        test = self._run_sample()
        for number, values in zip(self._file.outputs, test.outputs, strict=True):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ExportError(
                    f"{self._where} gives NaN or infinite values, in its output "
                    f"{self._file.tensor_name(number)!r}, for random inputs: a device "
                    "cannot be tested against them. Look for divisions, logarithms and "
                    "powers in the model that leave the range of floats."
                )
        return test

    def _run_sample(self) -> SelfTest:
        content, where = self._file.content, self._where
        sample = self._file.rounds(1)[0]
        plain = restore(content, where) if self._file.is_packed else None
        if has_tflm():
            found = compare_in_tflm(content, where=where, twin=plain)
            run = run_in_tflm(content, [sample], where=where)
            return SelfTest(
                inputs=sample,
                outputs=run.outputs[0],
                expected_by=TFLM,
                arena=found.arena,
            )
        with ReferenceRunner() as runner:
            outputs = runner.run(plain or content, [sample], where=where).outputs[0]
        by = "LiteRT by its reference kernels"
        return SelfTest(inputs=sample, outputs=outputs, expected_by=by, arena=None)

    def ends(self, test: SelfTest) -> list[dict[str, Any]]:
        """Its inputs and outputs, as the templates take them."""
        sides = (
            ("Input", self._file.inputs, test.inputs),
            ("Output", self._file.outputs, test.outputs),
        )
        return [
            self._end(side, number, tensor, values)
            for side, tensors, arrays in sides
            for number, (tensor, values) in enumerate(zip(tensors, arrays, strict=True))
        ]

    def _end(
        self, side: str, number: int, tensor: int, values: Array
    ) -> dict[str, Any]:
        described = self._file.described(tensor)
        if described["dtype"] not in C_TYPES:
            raise FileFormatError(
                f"{self._where} takes or gives {described['dtype']} values, "
                f"{described['name']!r}, which C++ has no type for. Export it with "
                "other ends (`input_type`, `output_type`)."
            )
        scales = described["scales"]
        tolerance = allowed_difference(self._file, tensor, values)
        return {
            "side": side,
            "number": number,
            "label": comment(described["name"]),
            "type": C_TYPES[described["dtype"]],
            "shape": " x ".join(map(str, described["shape"])) or "one value",
            "length": values.size,
            "scale": float_text(scales[0]) if scales else None,
            "zero_point": described["zero_points"][0] if scales else None,
            "tolerance": f"{tolerance:.9g}",
            "written": value_lines(values),
        }


def _methods(model: Record, where: str) -> list[str]:
    """The methods that add its operators; a FileFormatError if TFLM lacks one."""
    used = {
        int(operator["opcode_index"])
        for graph in model["subgraphs"]
        for operator in graph["operators"]
    }
    methods = set()
    for index in sorted(used):
        code = model["operator_codes"][index]
        method = tflm_method(code)
        if method is None:
            raise FileFormatError(
                f"{where} uses the operator {_name(model, index)}, which {TFLM} does "
                "not have. Export the model with penjing.export_litert(model, path, "
                "quantization, runtime='micro')."
            )
        methods.add(method)
    return sorted(methods)


def _name(model: Record, index: int) -> str:
    code = model["operator_codes"][index]
    number = operator_code(model, Record("Operator", opcode_index=index))
    if number == Operator.CUSTOM:
        return repr(bytes(code["custom_code"]).decode("utf-8", "replace"))
    known = {int(operator) for operator in Operator}
    return Operator(number).name if number in known else f"number {number}"


def _options_of(operator: Record) -> Record:
    options: Record = operator["builtin_options"] or Record("VarHandleOptions")
    return options


def _variables(model: Record) -> int:
    """How many states VAR_HANDLE names: of one name there is one state."""
    names = [
        bytes(_options_of(operator)["shared_name"])
        for graph in model["subgraphs"]
        for operator in graph["operators"]
        if operator_code(model, operator) == Operator.VAR_HANDLE
    ]
    return len(set(names))
