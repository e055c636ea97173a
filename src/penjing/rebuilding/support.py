"""Which operators of a file no rule knows, said before anything is built."""

from __future__ import annotations

from penjing.errors import UnsupportedModelError
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
    places: dict[str, list[str]] = {}
    stored = graph.model["subgraphs"][0]["operators"]
    for call in graph.calls:
        if call.code not in RULES and not (early and call.code in _LATER):
            output = graph.name(call.output) if call.outputs else "no output"
            found = places.setdefault(_name(graph.model, stored, call), [])
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


def _listed(places: list[str]) -> str:
    named = ", ".join(map(repr, places[:_NAMED]))
    more = len(places) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _name(model: Record, stored: list[Record], call: Call) -> str:
    if call.code != Operator.CUSTOM:
        try:
            return Operator(call.code).name
        except ValueError:
            return f"operator {call.code}"
    codes = (model["operator_codes"][o["opcode_index"]] for o in stored)
    outputs = [tuple(map(int, o["outputs"])) for o in stored]
    for code, given in zip(codes, outputs, strict=True):
        if number_of(code) == Operator.CUSTOM and given == call.outputs:
            text = bytes(code["custom_code"])[:_LONGEST_NAME].decode("utf-8", "replace")
            return f"CUSTOM {text}"
    return "CUSTOM"
