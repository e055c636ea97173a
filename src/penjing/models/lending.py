"""Methods and attributes that objects have for the time of a block only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Loan: TypeAlias = tuple[Any, str, Any]

_ABSENT = object()


@contextlib.contextmanager
def lent(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let an object have another method or attribute in the block.

    Behind it, also where the block raises, the attribute is what it was, or that of the
    class again. Blocks may stand in one another, for the same object and name too.
    Keras does not track what is lent.

    Example:
        >>> import math
        >>> with lent(math, "sqrt", len):
        ...     math.sqrt("four")
        4
        >>> math.sqrt(4)
        2.0
    """
    with all_lent([(owner, name, value)]):
        yield


@contextlib.contextmanager
def all_lent(loans: Iterable[Loan]) -> Iterator[None]:
    """Let objects have other methods or attributes in the block; see `lent`."""
    before: list[Loan] = []
    try:
        for owner, name, value in loans:
            before.append((owner, name, owner.__dict__.get(name, _ABSENT)))
            object.__setattr__(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            if value is _ABSENT:
                owner.__dict__.pop(name, None)
            else:
                object.__setattr__(owner, name, value)


@contextlib.contextmanager
def watched_calls(
    layers: Iterable[Any], note: Callable[[Any, Any, Any], None]
) -> Iterator[None]:
    """Tell what goes into layers and comes out in the block.

    `note` takes a layer, the first argument of a call and what the call gave. A layer
    that comes twice is watched once.
    """
    distinct = {id(layer): layer for layer in layers}.values()
    with all_lent((layer, "call", _telling(layer, note)) for layer in distinct):
        yield


def _telling(layer: Any, note: Callable[[Any, Any, Any], None]) -> Callable[..., Any]:
    call = layer.call

    def told(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = call(inputs, *args, **kwargs)
        note(layer, inputs, outputs)
        return outputs

    return told
