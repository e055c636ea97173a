"""A method's settings: arguments of its function, row of a recipe, saved config."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

import keras

from penjing.models.selection import filter_names

P = ParamSpec("P")
R = TypeVar("R")


class MethodConfig:
    """Base of the frozen dataclasses that say what a method does.

    One value is all three: the arguments of the public function, the row of a recipe,
    and the config in a saved model. So a setting is a field here, and what the code
    that uses it does; function, recipes and files follow.

    Attributes:
        method: Name of the method in recipes.
    """

    method: ClassVar[str]

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields; layers in `include` and `exclude` become their names."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        config = {field.name: getattr(self, field.name) for field in fields}
        for name in ("include", "exclude"):
            config[name] = filter_names(config[name])
        return {
            name: keras.saving.serialize_keras_object(value)
            for name, value in config.items()
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Config from the dictionary that `get_config` gave."""
        return cls(**{name: _deserialized(value) for name, value in config.items()})


def _deserialized(value: Any) -> Any:
    if isinstance(value, dict) and "registered_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return value


@dataclasses.dataclass(frozen=True)
class OfModel:
    """The first argument of every method.

    Args:
        model: What is compressed.
    """

    model: keras.Model


def takes_settings(
    config: type[MethodConfig], arguments: Callable[P, Any]
) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Let a function that takes a config take its settings one by one instead.

    A setting is then written in the config alone: it is an argument of the function,
    with its type and default, and its text stands in the docstring for `config`. The
    result decorates functions of `(model, config, **others)`.

    `arguments` is a dataclass of all arguments. It is never made: its constructor is
    the signature that is checked and shown, by type checkers too.

    Example:
        >>> from penjing.engine.pruning import prune
        >>> list(inspect.signature(prune).parameters)[:3]
        ['model', 'schedule', 'scope']
    """
    settings = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        signature = _signature(arguments, function)

        @functools.wraps(function)
        def method(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                others = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            given = {name: others.pop(name) for name in settings & others.keys()}
            return function(others.pop("model"), config(**given), **others)

        hints = {name: p.annotation for name, p in signature.parameters.items()}
        method.__annotations__ = {**hints, "return": signature.return_annotation}
        method.__signature__ = signature  # type: ignore[attr-defined]
        method.__doc__ = _with_settings(function.__doc__, config)
        return method

    return decorate


def _signature(arguments: Any, function: Callable[..., Any]) -> inspect.Signature:
    """The constructor's, with types in place of their names."""
    hints = typing.get_type_hints(arguments)
    parameters = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(arguments).parameters.items()
    ]
    result = typing.get_type_hints(function)["return"]
    return inspect.Signature(parameters, return_annotation=result)


def _with_settings(doc: str | None, config: type[MethodConfig]) -> str | None:
    """A docstring in which the settings stand where `config` is described."""
    if doc is None:  # python -OO
        return None
    texts = [vars(base)["__doc__"] for base in reversed(config.__mro__[:-1])]
    found = [re.search(r"Args:\n(.*?)(?:\n\n|\s*$)", text, re.DOTALL) for text in texts]
    settings = "\n".join(section[1] for section in found if section)
    entry = re.compile(r"^( *)config: .*\n(\1 +.*\n)*", re.MULTILINE)
    return entry.sub(lambda _: f"{settings}\n", doc)
