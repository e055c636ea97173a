"""Which files cannot become models, said before anything is built."""

from __future__ import annotations

import math

from penjing.errors import FileFormatError, UnsupportedModelError
from penjing.files import limit, raise_limits
from penjing.models.declared_models import MAX_LAYERS, most_variable_bytes
from penjing.rebuilding.rules.operator_rules import RULES
from penjing.rebuilding.source_graph import SourceGraph
from penjing.tflite.operators import Call, Operator, number_of, operators
from penjing.tflite.records import Record

_NAMED = 3  # places of an operator
_LONGEST_NAME = 60


# What may depend on shapes alone, and is then a constant once these are known.
_OF_SHAPES = operators("SHAPE RANK FILL RANGE BROADCAST_ARGS BROADCAST_TO SCATTER_ND")
# What converters write dilated convolutions as; they are joined again.
_DILATED = operators("SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND")
_LATER = (*_OF_SHAPES, *_DILATED)


def check_supported(graph: SourceGraph, where: str, *, early: bool = False) -> None:
    """Refuse a file with operators that have no rule: name, count and places of each.

    Others pass. The error is an UnsupportedModelError. `early`: sizes are not known
    yet, so what may be computed from them passes too, and dilations are apart.
    """
    _check_whole(graph, where)
    places: dict[str, list[str]] = {}
    custom = _custom_names(graph.model)
    for call in graph.calls:
        if call.code not in RULES and not (early and call.code in _LATER):
            output = graph.name(call.output) if call.outputs else "no output"
            found = places.setdefault(_name(custom, call), [])
            found.append(output[:_LONGEST_NAME])
    if places:
        rows = "; ".join(
            f"{name} ({len(found)}: at {_listed(found)})"
            for name, found in sorted(places.items())
        )
        raise UnsupportedModelError(
            f"{where} has operators that penjing.load_litert cannot make Keras layers "
            f"of: {rows}. Allowed are those in docs/load-litert.md. "
            "penjing.shrink_litert takes any file as it is."
        )


def check_size(graph: SourceGraph, size: int, where: str) -> None:
    """Refuse a file of `size` bytes whose constants would become too many weights.

    Each operator gets its own, also of those that it shares with others.
    """
    shapes = (
        graph.shape(number)
        for call in graph.calls
        for number in call.inputs
        if graph.is_constant(number)
    )
    total, most = (
        sum(4 * math.prod(shape) for shape in shapes),
        most_variable_bytes(size),
    )
    if total > most:
        raise UnsupportedModelError(
            f"The operators of {where} read {total:,} bytes of constants as float32, "
            f"each time that one is read counted, more than the {most:,} that a file "
            f"of its size may make. {raise_limits()}"
        )


def _check_whole(graph: SourceGraph, where: str) -> None:
    """Refuse a file that lacks parts, or with more operators than a model may have."""
    count, most = len(graph.calls), limit(MAX_LAYERS)
    if count > most:
        raise UnsupportedModelError(
            f"{where} has {count:,} operators, and a model may have {most:,} layers. "
            f"{raise_limits()}"
        )
    for call in graph.calls:
        if call.code in RULES and not call.outputs:
            raise FileFormatError(
                f"An operator {Operator(call.code).name} of {where} gives nothing. The "
                "file is damaged."
            )


def _listed(places: list[str]) -> str:
    named = ", ".join(map(repr, places[:_NAMED]))
    more = len(places) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _name(custom: dict[tuple[int, ...], str], call: Call) -> str:
    if call.code == Operator.CUSTOM:
        return custom.get(call.outputs, "CUSTOM")
    try:
        return Operator(call.code).name
    except ValueError:
        return f"operator {call.code}"


def _custom_names(model: Record) -> dict[tuple[int, ...], str]:
    """Outputs of custom operators -> what the file calls these."""
    found = {}
    for operator in model["subgraphs"][0]["operators"]:
        code = model["operator_codes"][operator["opcode_index"]]
        if number_of(code) == Operator.CUSTOM:
            text = bytes(code["custom_code"])[:_LONGEST_NAME].decode("utf-8", "replace")
            found[tuple(map(int, operator["outputs"]))] = f"CUSTOM {text}"
    return found
