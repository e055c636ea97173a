"""The operators of a `.tflite` file, each as a file of its own, for timing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from penjing.tflite.cleaning import drop_unused
from penjing.tflite.loading import load_records
from penjing.tflite.operators import operator_name
from penjing.tflite.records import Record, pointed_to
from penjing.tflite.tensors import data_of
from penjing.tflite.writing import write_records

_NO_TENSOR = -1
# They keep something between runs.
_STATEFUL = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
_UNPACKING = ("DENSIFY", "DEQUANTIZE")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SingleOperator:
    """One operator of a file, and the shape of its first output, for a batch of 1.

    `number` is its place in the main graph. `content` is a `.tflite` file that runs it
    alone, whose inputs are the tensors `given` of the graph; None where it cannot run
    alone, as a loop or what keeps a state.
    """

    name: str
    shape: tuple[int, ...]
    content: bytes | None
    number: int = 0
    given: tuple[int, ...] = ()


def single_operators(data: bytes, where: str) -> list[SingleOperator]:
    """Take the bytes of a `.tflite` file apart into the operators of its main graph.

    They come in their order, but for those that unpack a constant when the file is
    loaded: they go with the operator that reads it. `where` is what messages call the
    file; one that is corrupt or of a newer format is a FileFormatError.
    """
    model = load_records(data, where)
    graph = model["subgraphs"][0]
    unpacking: dict[int, list[Record]] = {}
    found = []
    for number, operator in enumerate(graph["operators"]):
        before = _unpacked_by(model, graph, operator, unpacking)
        if before is None:
            single = _single(model, graph["tensors"], operator, unpacking)
            found.append(dataclasses.replace(single, number=number))
        else:
            unpacking[int(operator["outputs"][0])] = [*before, operator]
    return found


def _unpacked_by(
    model: Record,
    graph: Record,
    operator: Record,
    unpacking: Mapping[int, list[Record]],
) -> list[Record] | None:
    """What goes before an operator that unpacks a constant; None for all others.

    The runtime runs it when it loads the file.
    """
    is_whole = len(operator["inputs"]) and len(operator["outputs"])
    if operator_name(model, operator) not in _UNPACKING or not is_whole:
        return None
    number = int(operator["inputs"][0])
    if number in unpacking:
        return unpacking[number]
    return [] if len(data_of(model, graph["tensors"][number])) else None


def _single(
    model: Record,
    tensors: Sequence[Record],
    operator: Record,
    unpacking: Mapping[int, list[Record]],
) -> SingleOperator:
    name = operator_name(model, operator)
    outputs = [int(n) for n in operator["outputs"] if n != _NO_TENSOR]
    shape = tuple(int(n) for n in tensors[outputs[0]]["shape"]) if outputs else ()
    if name in _STATEFUL or pointed_to(operator, "graph") or not outputs:
        return SingleOperator(name=name, shape=shape, content=None)
    if name == "RESHAPE":
        operator = _with_known_shape(operator, shape)
    unpacked = [one for n in operator["inputs"] for one in unpacking.get(int(n), ())]
    single = _file(model, tensors, [*unpacked, operator])
    if single is None:
        return SingleOperator(name=name, shape=shape, content=None)
    content, given = single
    return SingleOperator(name=name, shape=shape, content=content, given=given)


def _with_known_shape(operator: Record, shape: tuple[int, ...]) -> Record:
    """A reshape to the stored shape, which other operators may compute in the file."""
    known = operator.copy()
    known["inputs"] = _indices([int(operator["inputs"][0])])
    known["builtin_options"] = Record("ReshapeOptions", new_shape=_indices(shape))
    return known


def _file(
    model: Record, tensors: Sequence[Record], operators: Sequence[Record]
) -> tuple[bytes, tuple[int, ...]] | None:
    """Write a file of a few operators; None where a tensor is kept between runs.

    Also gives the numbers of the tensors that are its inputs.
    """
    used = {n for operator in operators for n in pointed_to(operator, "tensor")}
    used |= {n for number in used for n in pointed_to(tensors[number], "tensor")}
    if any(tensors[n]["is_variable"] for n in used):
        return None
    own = [t.copy() if n in used else Record("Tensor") for n, t in enumerate(tensors)]
    for n in used:
        own[n].drop("shape_signature")
    made = {int(n) for operator in operators for n in operator["outputs"]}
    given = [n for n in sorted(used - made) if not len(data_of(model, own[n]))]
    graph = Record(
        "SubGraph",
        tensors=own,
        inputs=_indices(given),
        outputs=operators[-1]["outputs"],
        operators=[operator.copy() for operator in operators],
    )
    for operator in graph["operators"]:
        operator.drop("debug_metadata_index")
    single = Record(
        "Model",
        version=3,
        operator_codes=model["operator_codes"],
        subgraphs=[graph],
        buffers=model["buffers"],
    )
    drop_unused(single)
    return write_records(single), tuple(given)


def _indices(numbers: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.array(numbers, "<i4")
