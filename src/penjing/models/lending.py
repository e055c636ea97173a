"""Methods that objects have for the time of a block only, and for one thread only."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Loan: TypeAlias = tuple[Any, str, Any]

_ABSENT = object()
_lock = threading.RLock()


@contextlib.contextmanager
def lent(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let an object have another method in the block.

    Behind it, also where the block raises, the attribute is what it was, or that of the
    class again. Blocks may stand in one another, for the same object and name too. A
    method is lent to the thread alone that runs the block: others that call it get the
    object's own, those that the block starts too. What is no method is replaced for
    all: lend it only where no other thread knows the object, or make a `stand_in`.
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
    with contextlib.ExitStack() as stack:
        for owner, name, value in loans:
            stack.callback(_lend(owner, name, value))
        yield


def method_of(owner: Any, name: str) -> Callable[..., Any]:
    """A method as this thread sees it, itself: what is lent can call it and go on."""
    with _lock:
        switch = _switches.get((id(owner), name))
        found = getattr(owner, name) if switch is None else switch.current()
    return found  # type: ignore[no-any-return]


class _Switch:
    """Stands for a method while threads have lent it; each calls what it lent."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name
        self.before = owner.__dict__.get(name, _ABSENT)
        self.original = getattr(owner, name)
        self.loans: dict[int, list[Any]] = {}

        @functools.wraps(self.original)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.current()(*args, **kwargs)

        object.__setattr__(owner, name, call)

    def current(self) -> Any:
        """What the running thread calls."""
        own = self.loans.get(threading.get_ident())
        return own[-1] if own else self.original


_switches: dict[tuple[int, str], _Switch] = {}


def _lend(owner: Any, name: str, value: Any) -> Callable[[], None]:
    """Lend one attribute; gives what takes it back."""
    if not callable(value) or not callable(getattr(owner, name, None)):
        before = owner.__dict__.get(name, _ABSENT)
        object.__setattr__(owner, name, value)
        return functools.partial(_restore, owner, name, before)
    with _lock:
        key = (id(owner), name)
        switch = _switches.get(key) or _Switch(owner, name)
        _switches[key] = switch
        switch.loans.setdefault(threading.get_ident(), []).append(value)
    return functools.partial(_take_back, switch)


def _take_back(switch: _Switch) -> None:
    with _lock:
        thread = threading.get_ident()
        switch.loans[thread].pop()
        if not switch.loans[thread]:
            del switch.loans[thread]
        if not switch.loans:
            del _switches[id(switch.owner), switch.name]
            _restore(switch.owner, switch.name, switch.before)


def _restore(owner: Any, name: str, before: Any) -> None:
    if before is _ABSENT:
        owner.__dict__.pop(name, None)
    else:
        object.__setattr__(owner, name, before)


@contextlib.contextmanager
def watched_calls(
    layers: Iterable[Any], note: Callable[[Any, Any, Any], None]
) -> Iterator[None]:
    """Tell what goes into layers and comes out in the block, in this thread.

    `note` takes a layer, the first argument of a call and what the call gave. A layer
    that comes twice is watched once.
    """
    distinct = {id(layer): layer for layer in layers}.values()
    with all_lent((layer, "call", _telling(layer, note)) for layer in distinct):
        yield


def _telling(layer: Any, note: Callable[[Any, Any, Any], None]) -> Callable[..., Any]:
    call = method_of(layer, "call")

    def told(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = call(inputs, *args, **kwargs)
        note(layer, inputs, outputs)
        return outputs

    return told
