"""What a packed file holds in place of each constant, for those who look into it."""

from __future__ import annotations

import dataclasses

from penjing.packing.decode_operators import decode_constants
from penjing.tflite.decode_records import Form, is_decode
from penjing.tflite.loading import load_records
from penjing.tflite.records import Record
from penjing.tflite.tensors import data_of

_BITS = 5  # the byte of a table's header that ends in the bits of an index


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedConstant:
    """The form of a constant, in words, and the bytes that stand for it."""

    form: str
    data: bytes


def packed_constants(content: bytes, where: str) -> dict[bytes, PackedConstant]:
    """Map the bytes of each decoded constant to what the file holds in its place.

    Bytes that several constants share, as a code, are counted for the first of them.
    """
    model = load_records(content, where)
    places = [
        (tensors[output], tensors[inputs[2 * n]], tensors[inputs[2 * n + 1]])
        for tensors, inputs, outputs in _decoders(model)
        for n, output in enumerate(outputs[: len(inputs) // 2])
    ]
    decode_constants(model, where)
    counted: set[int] = set()
    found: dict[bytes, PackedConstant] = {}
    for tensor, *sources in places:
        key = data_of(model, tensor).tobytes()
        before = found.get(key, PackedConstant(form=_form(model, sources[1]), data=b""))
        new = [source for source in sources if source["buffer"] not in counted]
        counted.update(source["buffer"] for source in sources)
        data = before.data + b"".join(data_of(model, s).tobytes() for s in new)
        found[key] = dataclasses.replace(before, data=data)
    return found


def _decoders(model: Record) -> list[tuple[list[Record], list[int], list[int]]]:
    return [
        (graph["tensors"], operator["inputs"].tolist(), operator["outputs"].tolist())
        for graph in model["subgraphs"]
        for operator in graph["operators"]
        if is_decode(model, operator)
    ]


def _form(model: Record, ancillary: Record) -> str:
    header = data_of(model, ancillary).tobytes()
    form = Form(header[0])
    if form != Form.TABLE:
        return form.name.lower()
    bits = header[_BITS] & 0xF
    return f"table of {bits} bit{'' if bits == 1 else 's'}"
