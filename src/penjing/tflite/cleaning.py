"""Steps that leave every number alone: what a running file does not read goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.tflite.records import Record, pointed_to, renumber
from penjing.tflite.tensors import all_tensors, are_numbered, data_of, output_number

# What the runtime itself reads: it may then compute in float16.
_READ_METADATA = (b"reduced_precision_support",)
_MEMORY_PLAN = b"OfflineMemoryAllocation"


def refuse_memory_plan(model: Record, where: str) -> None:
    """Refuse a file that says where its tensors lie, by numbers that would change."""
    if any(entry["name"] == _MEMORY_PLAN for entry in model["metadata"]):
        raise FileFormatError(
            f"{where} says where its tensors lie in memory (metadata "
            f"{_MEMORY_PLAN.decode()!r}), by their numbers, which change. Take the "
            "file as it was before, and plan its memory again afterwards."
        )


def drop_names(model: Record, *, keep_ends: bool = False) -> None:
    """Leave out the names of tensors and graphs.

    `keep_ends` keeps those of several inputs, and of several outputs, of the first
    graph: equal ones are not told apart without.
    """
    graph = model["subgraphs"][0]
    sides = [graph["inputs"], graph["outputs"]] if keep_ends else []
    kept = {int(n): graph["tensors"][n]["name"] for s in sides if len(s) > 1 for n in s}
    for record in (*all_tensors(model), *model["subgraphs"]):
        record.drop("name")
    for number, name in kept.items():
        if name:
            graph["tensors"][number]["name"] = name


def name_ends(model: Record) -> None:
    """Call inputs and outputs of the first graph as its signature does, if any."""
    signatures = [s for s in model["signature_defs"] if s["subgraph_index"] == 0]
    signatures.sort(key=lambda s: s["signature_key"] != b"serving_default")
    tensors = model["subgraphs"][0]["tensors"]
    for signature in signatures[:1]:
        for end in (*signature["outputs"], *signature["inputs"]):
            if end["name"]:
                tensors[end["tensor_index"]]["name"] = end["name"]


def drop_metadata(model: Record) -> None:
    """Leave out the description, and metadata that the runtime does not read."""
    kept = [entry for entry in model["metadata"] if entry["name"] in _READ_METADATA]
    model["metadata"] = kept or None
    model.drop("description", "metadata_buffer")
    for graph in model["subgraphs"]:
        for record in (graph, *graph["operators"]):
            record.drop("debug_metadata_index")


def drop_signatures(model: Record) -> list[int]:
    """Leave out the signatures; outputs get the order that their names gave.

    Those of a signature, where there is one, else those of the tensors.
    Gives for each output of the first graph its place before.
    """
    graph = model["subgraphs"][0]
    order = list(range(len(graph["outputs"])))
    signatures = [s for s in model["signature_defs"] if s["subgraph_index"] == 0]
    signatures.sort(key=lambda s: s["signature_key"] != b"serving_default")
    pairs = [
        (r["name"], r["tensor_index"]) for s in signatures[:1] for r in s["outputs"]
    ]
    if not signatures:
        pairs = [(graph["tensors"][n]["name"], n) for n in graph["outputs"]]
    names = {bytes(name).decode(errors="replace"): int(n) for name, n in pairs}
    if are_numbered(names):
        numbers: dict[int, list[int]] = {}
        for name in sorted(names, key=output_number):
            numbers.setdefault(names[name], []).append(output_number(name))
        places = [_taken(numbers.get(int(n), [0])) for n in graph["outputs"]]
        order.sort(key=places.__getitem__)
        graph["outputs"] = graph["outputs"][order]
    model.drop("signature_defs")
    return order


def _taken(numbers: list[int]) -> int:
    """The next number of an output; the last one stays."""
    return numbers.pop(0) if len(numbers) > 1 else numbers[0]


def drop_ranges(model: Record) -> None:
    """Leave out the ranges from which scales were once computed."""
    for tensor in all_tensors(model):
        if tensor["quantization"]:
            tensor["quantization"].drop("min", "max")
            if not any(True for _ in tensor["quantization"].items()):
                tensor.drop("quantization")


def drop_repeated_shapes(model: Record) -> None:
    """Leave out what says the same as the shape."""
    for tensor in all_tensors(model):
        if np.array_equal(tensor["shape_signature"], tensor["shape"]):
            tensor.drop("shape_signature")
        if len(tensor["shape"]):
            tensor.drop("has_rank")


def drop_unused(model: Record) -> None:
    """Leave out tensors, operator codes and buffers that nothing uses."""
    for number, graph in enumerate(model["subgraphs"]):
        _drop_unused_tensors(model, graph, number)
    _drop_unused_codes(model)
    share_buffers(model)


def sort_tensors(model: Record, *, by: str) -> None:
    """Put the tensors of each graph, and so their buffers, in another order, in place.

    `by` is "type": constants come last, by type; "size": so, and small ones first; or
    "falling size": large ones first.
    """
    keys: dict[str, Callable[[int, int], Any]] = {
        "type": lambda size, kind: (size > 0, kind),
        "size": lambda size, kind: (size > 0, kind, size),
        "falling size": lambda size, kind: -size,
    }

    def key(tensor: Record) -> Any:
        return keys[by](len(data_of(model, tensor)), tensor["type"])

    for number, graph in enumerate(model["subgraphs"]):
        _drop_unused_tensors(model, graph, number, key)


def _drop_unused_tensors(
    model: Record,
    graph: Record,
    number: int,
    key: Callable[[Record], Any] | None = None,
) -> None:
    tensors = graph["tensors"]
    signatures = [s for s in model["signature_defs"] if s["subgraph_index"] == number]
    kept = sorted(_used_tensors(graph, signatures))
    if key is not None:
        kept.sort(key=lambda n: key(tensors[n]))
    places = np.full(len(tensors), -1)
    places[kept] = np.arange(len(kept))
    graph["tensors"] = [tensors[n] for n in kept]
    for holder in (graph, *signatures):
        renumber(holder, "tensor", places)


def _used_tensors(graph: Record, signatures: Sequence[Record]) -> set[int]:
    """Tensors that something needs; those that hold scales of others are among them."""
    bare = graph.copy()
    bare.drop("tensors")
    used: set[int] = set()
    found = [n for holder in (bare, *signatures) for n in pointed_to(holder, "tensor")]
    while found:
        number = found.pop()
        if number not in used:
            used.add(number)
            found += pointed_to(graph["tensors"][number], "tensor")
    return used


def _drop_unused_codes(model: Record) -> None:
    _share(
        model,
        "code",
        "operator_codes",
        lambda code: tuple((field.name, value) for field, value in code.items()),
    )


def share_buffers(model: Record, *, keep_order: bool = False) -> None:
    """Keep each content once; the first buffer stays empty, as the runtime wants.

    Contents get the order of their use, unless `keep_order` leaves them in theirs.
    """
    _share(
        model,
        "buffer",
        "buffers",
        lambda item: item["data"].tobytes(),
        [Record("Buffer")],
        keep_order=keep_order,
    )


def _share(
    model: Record,
    target: str,
    name: str,
    key: Callable[[Record], Any],
    kept: Sequence[Record] = (),
    *,
    keep_order: bool = False,
) -> None:
    """Keep only what is pointed to, in the order of use, and equal ones once."""
    items, kept = model[name], list(kept)
    first = {key(item): place for place, item in enumerate(kept)}
    places = np.zeros(len(items), int)
    used = dict.fromkeys(pointed_to(model, target))
    for number in sorted(used) if keep_order else used:
        places[number] = first.setdefault(key(items[number]), len(kept))
        if places[number] == len(kept):
            kept.append(items[number])
    model[name] = kept
    renumber(model, target, places)
