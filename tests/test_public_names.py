"""What public functions give is public too, all the way down."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import penjing
from penjing import pipeline

pytestmark = pytest.mark.once

# Layers in training hold them, and nobody makes or calls one.
NOT_PROMISED = {"Transform"}


def classes_in(annotation: Any) -> Iterator[type]:
    """The classes that an annotation names, as `A` and `B` in `dict[A, B | None]`."""
    if isinstance(annotation, type):
        yield annotation
    for part in typing.get_args(annotation):
        yield from classes_in(part)


def returned(function: Any) -> Iterator[type]:
    hints = typing.get_type_hints(inspect.unwrap(function))
    return classes_in(hints.get("return"))


def reachable(value: type) -> Iterator[type]:
    """Classes of attributes, and of what properties and methods return."""
    for annotation in typing.get_type_hints(value).values():
        yield from classes_in(annotation)
    for owner in value.__mro__:
        if not owner.__module__.startswith("penjing"):
            continue
        for name, member in vars(owner).items():
            function = getattr(member, "fget", None) or getattr(
                member, "__func__", member
            )
            if not name.startswith("_") and inspect.isfunction(function):
                yield from returned(function)


def unexported(values: dict[str, Any]) -> list[str]:
    """Classes of penjing that one gets hold of by `values`, and which are not there."""
    waiting: list[tuple[type, str]] = []
    for name, value in values.items():
        if inspect.isfunction(value):
            waiting += [(given, name) for given in returned(value)]
        elif inspect.isclass(value):
            waiting += [(given, name) for given in reachable(value)]
    seen = {value for value in values.values() if inspect.isclass(value)}
    missing = []
    for value, source in waiting:  # grows
        is_ours = value.__module__.startswith("penjing")
        if value in seen or not is_ours or value.__name__ in NOT_PROMISED:
            continue
        seen.add(value)
        missing.append(f"{value.__name__} of {source}")
        waiting += [(given, value.__name__) for given in reachable(value)]
    return missing


def public_values() -> dict[str, Any]:
    names = {name: getattr(penjing, name) for name in (*penjing.__all__, "compress")}
    return {**names, **{name: getattr(pipeline, name) for name in pipeline.__all__}}


def test_everything_that_public_functions_give_is_exported():
    assert not unexported(public_values())


def test_what_is_missing_is_found_behind_fields_properties_and_methods():
    values = public_values()
    for name, found in (
        ("SparsityReport", ["SparsityReport of sparsity_report"]),
        ("Report", ["Report of compress"]),
        ("OperatorTime", ["OperatorTime of FileLatency"]),
        ("TensorSpec", ["TensorSpec of LiteRTModel"]),
        ("GroupMember", ["GroupMember of ChannelGroup"]),
    ):
        assert unexported({n: v for n, v in values.items() if n != name}) == found


def test_names_are_sorted_and_there():
    assert penjing.__all__ == sorted(penjing.__all__)
    assert all(hasattr(penjing, name) for name in penjing.__all__)
