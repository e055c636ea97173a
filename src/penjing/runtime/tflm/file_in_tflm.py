"""A file that TFLM is to run: its main graph, and samples for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.runtime.sample_inputs import make_rounds
from penjing.runtime.tflm.tflm_runner import TFLM
from penjing.tflite.decode_records import is_packed
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Call, Operator, calls, number_of
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, tensor_name

_MOST_KEPT = 2**24  # bytes of all tensors of all samples
_TAKEN = (
    *(TensorType.BOOL, TensorType.FLOAT32, TensorType.INT8, TensorType.INT16),
    *(TensorType.INT32, TensorType.INT64, TensorType.UINT8),
)
_UNSEEN = (TensorType.STRING, TensorType.RESOURCE, TensorType.VARIANT)

Array = np.ndarray[Any, Any]


class FileInTflm:
    """The main graph of a file without free sizes; one with them is refused.

    Attributes:
        content: The file.
        where: What messages call it.
        model: Table of the model.
        tensors: Tables of its tensors.
        calls: Its operators in their order.
        inputs: Numbers of the tensors that it takes.
        outputs: Numbers of those that it gives.
        operators: Names of the operators that the file needs, sorted.
        is_packed: Whether weights are encoded, which LiteRT cannot decode.
    """

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where = content, where
        self.model = model = load_records(content, where)
        graph = model["subgraphs"][0]
        self.is_packed = is_packed(model)
        self.tensors: list[Record] = graph["tensors"]
        self.calls: list[Call] = list(calls(model, graph))
        self.inputs: list[int] = [int(number) for number in graph["inputs"]]
        self.outputs: list[int] = [int(number) for number in graph["outputs"]]
        self.operators = tuple(sorted(set(map(_code_name, model["operator_codes"]))))
        self._check_inputs()

    def _check_inputs(self) -> None:
        for number in self.inputs:
            tensor = self.tensors[number]
            if TensorType(tensor["type"]) not in _TAKEN:
                raise FileFormatError(
                    f"{self.where} takes {TensorType(tensor['type']).dtype} values, "
                    f"{tensor_name(tensor)!r}, and {TFLM} has no such inputs. Give it "
                    "numbers: floats of 32 bits, or integers."
                )
            shape = [int(size) for size in tensor["shape_signature"]]
            if any(size < 0 for size in shape):
                raise FileFormatError(
                    f"{self.where} leaves sizes of its input {tensor_name(tensor)!r} "
                    f"free, {shape}, and {TFLM} runs no such file. Export the model "
                    "with penjing.export_litert(model, path, quantization, "
                    "runtime='micro'), which gives it a batch of 1; of a file alone "
                    "penjing.shrink_litert(file, out, batch=1) makes one."
                )

    def check_plain(self) -> None:
        """Refuse a packed file, which LiteRT cannot run."""
        if self.is_packed:
            raise FileFormatError(
                f"{self.where} is packed, for {TFLM} only: LiteRT, which it would be "
                "compared with, does not run it. Give the plain file that it was "
                "packed from as `twin`."
            )

    def check_ends(self, other: FileInTflm) -> None:
        """Refuse a twin that takes or gives other arrays, or in other scales."""
        mine, others = [
            [_end(f.tensors[n]) for n in f.inputs + f.outputs] for f in (self, other)
        ]
        if mine != others:
            raise ValueError(
                f"`twin` must be a file of the same network, but it takes and gives "
                f"{others}, and {self.where} {mine}."
            )

    def rounds(self, samples: int) -> list[list[Array]]:
        """So many seeded random samples, and those at the ends of the types.

        Floats that are rounded to integers first are spread over the range of these:
        small ones would all fall on a few steps.
        """
        described = [self.described(number) for number in self.inputs]
        rounds = make_rounds(described, free=False, seeds=samples)
        for place, number in enumerate(self.inputs):
            ends = self._rounded_range(number)
            if ends is not None:
                for seed, arrays in enumerate(rounds[:samples]):
                    shape = arrays[place].shape
                    values = np.random.default_rng(seed).uniform(*ends, shape)
                    arrays[place] = values.astype("f4")
                for arrays, end in zip(rounds[-2:], ends, strict=True):  # low and high
                    arrays[place] = np.full_like(arrays[place], end)
        return rounds

    def _rounded_range(self, number: int) -> tuple[float, float] | None:
        """The reals that the integers stand for which a float input is rounded to."""
        if self.tensors[number]["type"] != TensorType.FLOAT32:
            return None
        readers = [call for call in self.calls if number in call.inputs]
        if not readers or any(c.code != Operator.QUANTIZE for c in readers):
            return None
        table = self.described(readers[0].output)
        if not table["scales"] or table["dtype"] not in ("int8", "uint8", "int16"):
            return None
        limits, scale = np.iinfo(table["dtype"]), table["scales"][0]
        zero = table["zero_points"][0] if table["zero_points"] else 0
        return (limits.min - zero) * scale, (limits.max - zero) * scale

    def described(self, number: int) -> dict[str, Any]:
        """A tensor as `sample_inputs` describes them."""
        tensor = self.tensors[number]
        shape = [int(size) for size in tensor["shape"]]
        table = tensor["quantization"]
        return {
            "name": tensor_name(tensor),
            "shape": shape,
            "signature": shape,
            "dtype": TensorType(tensor["type"]).dtype,
            "scales": [float(one) for one in table["scale"]] if table else [],
            "zero_points": [int(one) for one in table["zero_point"]] if table else [],
        }

    def watched(self, samples: int) -> dict[str, Any]:
        """The tensors that operators give, and for how many samples they fit."""
        made = [n for call in self.calls for n in call.outputs if n >= 0]
        seen = [n for n in made if self.tensors[n]["type"] not in _UNSEEN]
        size = sum(map(self._bytes, seen))
        kept = int(np.clip(_MOST_KEPT // max(size, 1), 1, samples))
        return {"tensors": seen, "kept": kept}

    def _bytes(self, number: int) -> int:
        tensor = self.tensors[number]
        bits = TensorType(tensor["type"]).bits
        return math.prod(int(size) for size in tensor["shape"]) * bits // 8

    def operator_name(self, number: int) -> str:
        """The schema's name of an operator."""
        code = self.calls[number].code
        known = {int(operator) for operator in Operator}
        return Operator(code).name if code in known else f"operator {code}"

    def tensor_name(self, number: int) -> str:
        """What the file calls a tensor."""
        return tensor_name(self.tensors[number])

    def maker_of(self, tensor: int) -> Call | None:
        """The operator that gives a tensor; None where none does."""
        return next((call for call in self.calls if tensor in call.outputs), None)

    def keeps_state(self, number: int) -> bool:
        """Whether what an operator gives depends on samples before."""
        call = self.calls[number]
        name = self.operator_name(number)
        variable = any(self.tensors[n]["is_variable"] for n in call.inputs if n >= 0)
        return variable or name in ("READ_VARIABLE", "CUSTOM")


def _end(tensor: Record) -> tuple[Any, ...]:
    """Shape and type of an array, and what its integers mean."""
    shape = tuple(int(size) for size in tensor["shape"])
    dtype, table = TensorType(tensor["type"]).dtype, tensor["quantization"]
    if not table or not len(table["scale"]):
        return shape, dtype
    scales = tuple(float(scale) for scale in table["scale"])
    points = tuple(int(point) for point in table["zero_point"]) or (0,)
    return shape, dtype, f"scale {scales}", f"zero point {points}"


def _code_name(code: Record) -> str:
    number = number_of(code)
    if number == Operator.CUSTOM:
        return bytes(code["custom_code"]).decode("utf-8", "replace")
    known = {int(operator) for operator in Operator}
    return Operator(number).name if number in known else f"operator {number}"
