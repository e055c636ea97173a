"""Checks of arguments that many public functions share."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Sequence


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a value that is not among `allowed`, with the nearest one that is.

    Raises:
        ValueError: If it is not.
    """
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}, got "
            f"{name}={value!r}.{hint}"
        )


def check_integer(name: str, value: object, *, least: int) -> None:
    """Refuse what is not an integer of at least `least`.

    Raises:
        ValueError: If it is not.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:  # type: ignore[operator]
        raise ValueError(
            f"`{name}` must be an integer of at least {least}, got {value!r}."
        )


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, got {value!r}.")
