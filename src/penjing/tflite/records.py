"""A `.tflite` file as tables that can be changed.

Nothing is lost between reading and writing: fields that this version does not know
are refused, not dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from penjing.errors import FileFormatError
from penjing.tflite.flat_buffers import FlatBuffer, Table
from penjing.tflite.table_layouts import LAYOUTS, UNIONS, Field

MAX_TABLES = 500_000


class Record:
    """One table: a mapping from the names of its fields to their values.

    Numbers are Python's; vectors of numbers are NumPy arrays, which may share memory
    with the file and are not to be written into; texts are bytes; tables are records.
    `kind` names the table in the schema. A field that is absent or None reads as its
    default: 0, an empty vector, or None for a table.
    """

    __slots__ = ("_fields", "kind")

    def __init__(self, kind: str, **fields: Any) -> None:
        self.kind = kind
        self._fields: dict[str, Any] = {}
        for name, value in fields.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        value = self._fields.get(name)
        return _absent(_field(self.kind, name)) if value is None else value

    def __setitem__(self, name: str, value: Any) -> None:
        _field(self.kind, name)
        self._fields[name] = value

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def drop(self, *names: str) -> bool:
        """Leave fields out of the file; whether there were any."""
        found = [self._fields.pop(name, None) for name in names]
        return any(value is not None for value in found)

    def items(self) -> Iterator[tuple[Field, Any]]:
        """The fields that are there, with their values."""
        for field in LAYOUTS[self.kind]:
            value = self._fields.get(field.name)
            if value is not None:
                yield field, value

    def copy(self) -> Record:
        """An independent copy; arrays, which are never written into, are shared."""
        twin = Record(self.kind)
        for name, value in self._fields.items():
            if isinstance(value, Record):
                value = value.copy()
            elif isinstance(value, list):
                value = [item.copy() for item in value]
            twin._fields[name] = value
        return twin

    def __deepcopy__(self, memo: Any) -> Record:
        return self.copy()


def pointers(record: Record, target: str) -> Iterator[tuple[Record, Field]]:
    """The fields that hold numbers of `target`: "tensor", "buffer", "code" or "graph".

    Gives tables, `record` and those below it, each with its field, which may be absent:
    then it holds its default.
    """
    for field in LAYOUTS[record.kind]:
        if field.target == target:
            yield record, field
        elif target in _targets_below(field):
            value = record[field.name]
            for inner in value if field.kind == "tables" else [value]:
                if inner is not None:
                    yield from pointers(inner, target)


def pointed_to(record: Record, target: str) -> list[int]:
    """The numbers in these fields, in their order; none of them is -1."""
    return [
        number
        for holder, field in pointers(record, target)
        for number in map(int, np.atleast_1d(holder[field.name]))
        if number >= 0
    ]


def renumber(record: Record, target: str, places: np.ndarray[Any, Any]) -> None:
    """Write new numbers into the fields that `pointers` gives, in place.

    `places` has for each old number the new one.
    """
    places = np.append(places, -1)  # for -1
    for holder, field in pointers(record, target):
        if field.kind == "scalar":
            holder[field.name] = int(places[holder[field.name]])
        elif field.name in holder:
            holder[field.name] = places[holder[field.name]].astype(_dtype(field.type))


@functools.cache
def _targets_below(field: Field) -> frozenset[str]:
    """What the tables in a field point to."""
    kinds = UNIONS.get(field.type, (field.type,)) if len(field.type) > 1 else ()
    inner = [field for kind in kinds for field in LAYOUTS[kind]]
    return frozenset(f.target for f in inner).union(*map(_targets_below, inner))


# A change to one tensor, which finds it again in any copy of the model.
Edit = Callable[[Record], None]


def _field(kind: str, name: str) -> Field:
    return _FIELDS[kind][name]


_FIELDS = {
    kind: {field.name: field for field in fields} for kind, fields in LAYOUTS.items()
}


def _absent(field: Field) -> Any:
    if field.kind == "scalar":
        return field.default if field.type in "fd" else int(field.default)
    if field.kind == "numbers":
        return np.zeros(0, _dtype(field.type))
    return {"tables": [], "text": b""}.get(field.kind)


def _dtype(code: str) -> np.dtype[Any]:
    return np.dtype("<" + ("u1" if code == "?" else code))


def read_records(
    data: bytes | bytearray,
    where: str,
    only: Mapping[str, Collection[str]] | None = None,
) -> Record:
    """Read a `.tflite` file, every offset checked, and give the table of the model.

    The arrays of the records lie in the bytes. `only` has the tables to read, and their
    fields; None: the whole file. What else the file holds is not looked at, so it may
    be of a newer format, or damaged. A FileFormatError says that what is read is
    corrupt; or that the whole file holds what this version does not know.
    """
    buffer = FlatBuffer(data, where)
    return _Reader(buffer, only).record(buffer.root(), "Model")


class _Reader:
    def __init__(
        self, buffer: FlatBuffer, only: Mapping[str, Collection[str]] | None
    ) -> None:
        self._buffer = buffer
        self._only = only
        self._tables = 0

    def record(self, table: Table, kind: str) -> Record:
        """Read a table and those below it; the schema bounds the depth."""
        self._tables += 1
        if self._tables > MAX_TABLES:
            raise self._buffer.error(f"it has more than {MAX_TABLES:,} tables")
        record = Record(kind)
        known: set[int] = set()
        for field in LAYOUTS[kind]:
            if self._only is not None and field.name not in self._only.get(kind, ()):
                continue
            known |= {field.slot, field.slot + (field.kind == "union")}
            value = self._value(table, field)
            if value is not None:
                record[field.name] = value
        unknown = set() if self._only is not None else set(table.present()) - known
        if unknown:
            raise self._newer(f"field {min(unknown)} of a table {kind}")
        return record

    def _value(self, table: Table, field: Field) -> Any:
        if field.kind == "scalar":
            return table.number(field.slot, "<" + field.type)
        if field.kind == "union":
            return self._union(table, field)
        if not table.has(field.slot):
            return None
        if field.kind == "text":
            return bytes(table.bytes(field.slot))
        if field.kind == "numbers":
            return table.array(field.slot, _dtype(field.type).str)
        if field.kind == "tables":
            found = table.tables(field.slot, MAX_TABLES)
            return [self.record(inner, field.type) for inner in found]
        inner_table = table.table(field.slot)
        return inner_table and self.record(inner_table, field.type)

    def _union(self, table: Table, field: Field) -> Record | None:
        number = table.number(field.slot, "<B")
        inner = table.table(field.slot + 1)
        names = UNIONS[field.type]
        if not number or inner is None:
            return None
        if number > len(names):
            if self._only is not None:
                return None
            raise self._newer(f"type {number} of {field.type}")
        return self.record(inner, names[number - 1])

    def _newer(self, what: str) -> FileFormatError:
        return FileFormatError(
            f"{self._buffer.where} holds {what}, which this version of penjing does "
            "not know. It is corrupt, or of a newer format: update penjing."
        )
