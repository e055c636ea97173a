"""Frozen dataclasses that survive JSON both ways."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

_PLAIN: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
}


class JsonValue:
    """Base of dataclasses that go to JSON and back, with those that are within them.

    Attributes:
        json_properties: Names of properties that JSON has beside the fields.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Share(JsonValue):
        ...     json_properties = ("rest",)
        ...     parts: tuple[float, ...]
        ...     @property
        ...     def rest(self):
        ...         return 1 - sum(self.parts)
        >>> Share(parts=(0.25, 0.5)).to_dict()
        {'parts': [0.25, 0.5], 'rest': 0.25}
        >>> Share.from_dict({"parts": [0.25, 0.5], "rest": 0.25}).parts
        (0.25, 0.5)
    """

    json_properties: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything in types that JSON has."""
        names = (*_field_names(self), *self.json_properties)
        return {name: _to_json(getattr(self, name)) for name in names}

    def _repr_html_(self) -> str:
        """What notebooks show: its fields as tables."""
        from penjing.notebook.value_html import value_html

        return value_html(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """Build a value from what `to_dict` gave, read from JSON or not.

        Other keys are passed over. A TypeError says that a field is missing or of
        another kind.
        """
        if not isinstance(table, Mapping):
            raise TypeError(f"{table!r} is no {cls.__name__}")
        hints = typing.get_type_hints(cls)
        known = [name for name in _field_names(cls) if name in table]
        return cls(**{name: _from_json(hints[name], table[name]) for name in known})


def _field_names(value: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(value)]


def _to_json(value: Any) -> Any:
    if isinstance(value, JsonValue):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


def _one_of(kinds: Sequence[Any], value: Any) -> Any:
    """The value as the first of some kinds that it can be."""
    if value is None and types.NoneType in kinds:
        return None
    errors = []
    for kind in [kind for kind in kinds if kind is not types.NoneType]:
        try:
            return _from_json(kind, value)
        except TypeError as error:
            errors.append(error)
    raise errors[0]


def _from_json(kind: Any, value: Any) -> Any:
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return _one_of(arguments, value)
    if typing.get_origin(kind) in (dict, Mapping) and arguments:
        if not isinstance(value, Mapping):
            raise TypeError(f"{value!r} is no table")
        return {key: _from_json(arguments[1], item) for key, item in value.items()}
    if kind in _PLAIN:
        is_number = kind in (int, float) and isinstance(value, bool)
        if is_number or not isinstance(value, _PLAIN[kind]):
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{value!r} is no list")
        kinds = arguments[:1] * len(value) if Ellipsis in arguments else arguments
        if len(kinds) != len(value):
            raise TypeError(f"{value!r} has not {len(kinds)} parts")
        return tuple(map(_from_json, kinds, value))
    if isinstance(kind, type) and issubclass(kind, JsonValue):
        return kind.from_dict(value)
    return value
