"""What the values of a recipe's keys may be, by `keys.json`, without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penjing.arguments import did_you_mean
from penjing.errors import RecipeError

_NO_BOUND = 10**9  # the most of anything, which nobody reaches
KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "integer": ("an integer", (int,)),
    "number": ("a number", (int, float)),
    "text": ("a string", (str,)),
    "flag": ("true or false", (bool,)),
    "table": ("a table", (Mapping,)),
}
"""The kinds of values: how they are called, and what they are in Python."""


def check_value(value: Any, entry: Mapping[str, Any], where: str) -> None:
    """Refuse what a key cannot take; `entry` is what `keys.json` says of it.

    Where the classes refuse it as well, the words are theirs, but for bounds.
    """
    if not entry.get("list"):
        _check_single(value, entry, where)
        return
    if not isinstance(value, list):
        raise RecipeError(f"{where} must be a list, got {value!r}.")
    for item in value:
        _check_single(item, entry, where)


def _check_single(value: Any, entry: Mapping[str, Any], where: str) -> None:
    choices = entry.get("choices")
    if choices is not None and not _is_number_beside(value, entry):
        if value not in choices:
            others = [KINDS[kind][0] for kind in entry["takes"] if kind != "text"]
            allowed = " or ".join([", ".join(map(str, choices)), *others])
            raise RecipeError(
                f"{where} is {value!r}.{did_you_mean(value, choices, form='`{}`')} "
                f"Allowed: {allowed}."
            )
        return
    if not any(_is_kind(value, kind) for kind in entry["takes"]):
        words = " or ".join(KINDS[kind][0] for kind in entry["takes"])
        raise RecipeError(f"{where} must be {words}, got {value!r}.")
    within = range_text(entry)
    if within and not _is_within(value, entry):
        raise RecipeError(
            f"{where} must be {within}, got {value!r}. {entry['meaning']}"
        )


def _is_number_beside(value: Any, entry: Mapping[str, Any]) -> bool:
    """Whether a value is of a kind that a key takes beside names to choose from."""
    others = [kind for kind in entry["takes"] if kind != "text"]
    return any(_is_kind(value, kind) for kind in others)


def _is_kind(value: Any, kind: str) -> bool:
    return isinstance(value, KINDS[kind][1]) and (
        kind == "flag" or not isinstance(value, bool)
    )


def _is_within(value: Any, entry: Mapping[str, Any]) -> bool:
    infinite = float("inf")
    return bool(
        entry.get("least", -infinite) <= value <= entry.get("most", infinite)
        and entry.get("above", -infinite) < value < entry.get("below", infinite)
    )


def range_text(entry: Mapping[str, Any]) -> str:
    """The bounds of a key's numbers in words; empty where it has none.

    Example:
        >>> range_text({"least": 0, "below": 1}), range_text({"least": 1})
        ('from 0 to below 1', 'at least 1')
    """
    low = "above {above}" if "above" in entry else "from {least}"
    high = " to below {below}" if "below" in entry else " to {most}"
    has_low = "above" in entry or "least" in entry
    has_high = "below" in entry or "most" in entry
    if has_low and has_high:
        text = low + high
    elif has_low:
        text = low.replace("from", "at least")
    else:
        text = high.replace(" to {", " at most {").strip() if has_high else ""
    return text.format(**{key: f"{n:,}" for key, n in entry.items() if _is_bound(n)})


def _is_bound(value: Any) -> bool:
    return _is_kind(value, "number")


def value_text(entry: Mapping[str, Any]) -> str:
    """What a key takes, in words.

    Example:
        >>> value_text({"takes": ["integer"], "least": 1})
        'an integer, at least 1'
    """
    if "table" in entry:
        return f"a table of the keys of `{entry['table']}`"
    kinds = [KINDS[kind][0] for kind in entry["takes"]]
    if "choices" in entry:
        names = ", ".join(f'"{choice}"' for choice in entry["choices"])
        if entry["takes"] == ["text"]:
            return f"a list of {names}" if entry.get("list") else names
        kinds = [names, *(kind for kind in kinds if kind != KINDS["text"][0])]
    words = " or ".join(kinds)
    if entry.get("list"):
        return f"a list, each {words}"
    told = {key: value for key, value in entry.items() if value != _NO_BOUND}
    return ", ".join(filter(None, [words, range_text(told)]))
