"""Shows the package to mkdocstrings as its users see it.

The section `Example:` of docstrings is code, as `Examples:` is by itself. Functions
that `takes_settings` decorates take the fields of a config one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)
_SETTINGS = re.compile(r"takes_settings\((\w+),")
_ARGUMENTS = re.compile(r"^Args:\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_CONFIG = re.compile(r"^    config:.*?(?=^    \w|^\S|\Z)", re.MULTILINE | re.DOTALL)


class AsUsersSeeIt(griffe.Extension):
    """Renames sections before they are parsed, and opens configs."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(r"\1Examples:", obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        for function in _functions(pkg):
            for decorator in function.decorators:
                match = _SETTINGS.match(str(decorator.value))
                if match:
                    path = function.resolve(match[1])
                    _open(function, pkg.modules_collection[path])


def _functions(module: griffe.Module) -> Iterator[griffe.Function]:
    for member in module.members.values():
        if member.is_alias:
            continue
        if member.is_function:
            yield member
        elif member.is_module:
            yield from _functions(member)


def _open(function: griffe.Function, config: griffe.Class) -> None:
    """Put the fields of a config in the place of the parameter `config`."""
    keyword = griffe.ParameterKind.keyword_only
    fields = [
        griffe.Parameter(
            name, annotation=field.annotation, kind=keyword, default=field.value
        )
        for name, field in config.attributes.items()
        if field.annotation and "property" not in field.labels
    ]
    for field in fields:
        if "kw_only=False" in str(field.default):
            field.kind = griffe.ParameterKind.positional_or_keyword
            field.default = None
    others = list(function.parameters)
    model, rest = others[0], [p for p in others[1:] if p.name != "config"]
    fields.sort(key=lambda field: field.kind is keyword)
    function.parameters = griffe.Parameters(model, *fields, *rest)
    described = _ARGUMENTS.search(config.docstring.value)
    if described and function.docstring:
        text = _CONFIG.sub(
            lambda _: described[1].rstrip() + "\n", function.docstring.value
        )
        function.docstring.value = text
