"""Checks of arguments that many public functions share."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Sequence


def nearest_name(
    name: object, known: Iterable[object], cutoff: float = 0.6
) -> str | None:
    """The known name that is most like another one, as text; None if none is near.

    `cutoff` is how alike the two must be, from 0 to 1.
    """
    found = difflib.get_close_matches(str(name), list(map(str, known)), 1, cutoff)
    return found[0] if found else None


def did_you_mean(
    name: object,
    known: Iterable[object],
    cutoff: float = 0.6,
    form: str = "{!r}",
) -> str:
    """The end of a message that refuses a name.

    That is `" Did you mean 'that'?"`, with the space before it; nothing where none is
    near. `cutoff` is how alike the two must be, from 0 to 1; `form` is how the nearest
    is written.

    Example:
        >>> did_you_mean("metl", ["wood", "metal"])
        " Did you mean 'metal'?"
    """
    near = nearest_name(name, known, cutoff)
    return "" if near is None else f" Did you mean {form.format(near)}?"


def quoted(names: Iterable[object], limit: int | None = None) -> str:
    """Names for a message, at most `limit` of them and how many there are beyond.

    Example:
        >>> quoted(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    names = list(names)
    shown = names[:limit]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(map(repr, shown)) + more


def unknown_name(kind: str, name: object, allowed: Iterable[object]) -> str:
    """The message that refuses a name which is none of the allowed ones."""
    names = list(allowed)
    hint = did_you_mean(name, names)
    return f"Unknown {kind} {name!r}.{hint} Allowed: {quoted(names)}."


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a value that is not among `allowed`, with the nearest one that is."""
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {quoted(allowed)}, got {name}={value!r}."
            f"{did_you_mean(value, allowed)}"
        )


def check_integer(name: str, value: object, *, least: int, hint: str = "") -> None:
    """Refuse what is not an integer of at least `least`; `hint` says what it is."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:  # type: ignore[operator]
        raise ValueError(
            f"`{name}` must be an integer of at least {least}, got {value!r}.{hint}"
        )


def check_tolerance(tolerance: float) -> None:
    """Refuse what is no share of a magnitude: a number from 0."""
    if not isinstance(tolerance, numbers.Real) or not tolerance >= 0:
        raise ValueError(f"`tolerance` must be 0 or more, got {tolerance!r}.")


def check_counts(**counts: int) -> None:
    """Refuse numbers below 1."""
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be 1 or more, got {value!r}.")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, got {value!r}.")


def check_fraction(name: str, value: float, *, below_one: bool = False) -> None:
    """Refuse what is not from 0 to 1, or 1 where it must be below."""
    if not 0.0 <= value <= 1.0 or (below_one and value == 1.0):
        allowed = "[0, 1)" if below_one else "[0, 1]"
        raise ValueError(f"`{name}` must be in {allowed}, got {value}.")
