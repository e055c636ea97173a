"""Whether inputs and outputs of a file have the types that were asked for."""

from __future__ import annotations

from penjing.errors import ExportError
from penjing.tflite.operators import SAME_VALUES, operator_code, operator_name
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, tensor_name


def check_types(model: Record, input_type: str, output_type: str) -> None:
    """Refuse, as an ExportError, a file whose floats have other types at its ends.

    Inputs and outputs that are integers or booleans in the model keep their types.
    """
    graph = model["subgraphs"][0]
    for side, wanted in (("input", input_type), ("output", output_type)):
        for position, number in enumerate(graph[f"{side}s"]):
            tensor = graph["tensors"][number]
            if _is_real(tensor) and TensorType(tensor["type"]).dtype != wanted:
                raise ExportError(
                    f"The file was not written: its {side} {position} "
                    f"({tensor_name(tensor)!r}) is "
                    f"{TensorType(tensor['type']).dtype}, not {wanted} as "
                    f"`{side}_type` asks, because of {_reason(model, side, number)}. "
                    f'Use {side}_type="float32", or replace this operation.'
                )


def _is_real(tensor: Record) -> bool:
    """Whether values stand for real numbers, not for ids, places or answers."""
    is_float = TensorType(tensor["type"]).dtype.startswith("float")
    quantization = tensor["quantization"]
    return is_float or bool(quantization and len(quantization["scale"]))


def _reason(model: Record, side: str, number: int) -> str:
    """The operation that reads an input or makes an output."""
    graph = model["subgraphs"][0]
    place = "inputs" if side == "input" else "outputs"
    for operator in graph["operators"]:
        if number in operator[place]:
            code = operator_code(model, operator)
            other = operator["outputs" if side == "input" else "inputs"][0]
            if code in SAME_VALUES and other != number:
                return _reason(model, side, int(other))
            made = graph["tensors"][operator["outputs"][0]]
            return f"{operator_name(model, operator)} ({tensor_name(made)!r})"
    return "the model, which hands it through"
