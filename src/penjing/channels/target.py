"""How much a cut is to take away: one number of one kind."""

from __future__ import annotations

import dataclasses
import numbers
import re
from typing import Any

_KINDS = ("ratio", "macs", "parameters", "flash", "latency")
_LATENCY = re.compile(r"\s*(\d+(?:\.\d*)?(?:e-?\d+)?)\s*ms\s*")

LEAST_ARENA = 100  # so that 1, where 1.0 was meant, is no byte


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelTarget:
    """What a cut is to reach; exactly one of the arguments is given.

    Args:
        ratio: Fraction of the channels that go, of those that can, in [0, 1).
        macs: Multiply-accumulates that stay: a fraction in (0, 1) of the model's, or an
            integer, which is a number of them.
        parameters: Numbers in weights that stay, in the same way.
        flash: Bytes of flash that the finished int8 file takes, estimated, in the same
            way.
        latency: Time that stays: a fraction in (0, 1) of the model's, or a text such as
            "0.5 ms".

    Raises:
        ValueError: If none or several are given, or the one is out of range.

    Example:
        >>> ChannelTarget(macs=0.25).kind
        'macs'
    """

    ratio: float | None = None
    macs: float | int | None = None
    parameters: float | int | None = None
    flash: float | int | None = None
    latency: float | str | None = None

    def __post_init__(self) -> None:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            got = " and ".join(f"{kind}={getattr(self, kind)}" for kind in given)
            raise ValueError(
                "Exactly one of `ratio`, `macs`, `parameters`, `flash` and `latency` "
                f"says how much to cut, got {got or 'none'}. For example macs=0.5 "
                "keeps half of the multiply-accumulates."
            )
        check = {"ratio": _check_ratio, "latency": _check_latency}
        check.get(given[0], _check_amount)(given[0], self.value)

    @property
    def kind(self) -> str:
        """Which of the five it is."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def value(self) -> Any:
        """What was given for it."""
        return getattr(self, self.kind)

    def amount(self, whole: float) -> float:
        """What may stay of `whole`, what there is now, in its unit."""
        if self.kind == "ratio":
            return whole * (1.0 - float(self.value))
        if isinstance(self.value, str):
            return float(_LATENCY.fullmatch(self.value).group(1))  # type: ignore[union-attr]
        whole = 1.0 if isinstance(self.value, numbers.Integral) else whole
        return float(self.value) * whole


def check_weight_bits(value: Any) -> None:
    """Refuse bits that no number of a weight takes in a file."""
    if not _is_number(value) or not 1.0 <= value <= 8.0:
        raise ValueError(
            "`weight_bits` are those of a number in the finished file, from 1 to 8, "
            f"got {value!r}."
        )


def check_max_arena(value: Any) -> None:
    """Refuse what is no bound on RAM: neither bytes nor a fraction up to 1."""
    is_share = _is_number(value) and not isinstance(value, numbers.Integral)
    if value is None or (is_share and 0.0 < value <= 1.0):
        return
    is_bytes = _is_number(value) and isinstance(value, numbers.Integral)
    if not is_bytes or value < LEAST_ARENA:
        raise ValueError(
            "`max_arena` is the RAM that stays: a fraction up to 1.0 of what the "
            "model's plain int8 file takes, or an integer, which is a number of bytes, "
            f"{LEAST_ARENA} at least; got {value!r}."
        )


def arena_limit(value: float, whole: float) -> float:
    """Bytes that a valid `max_arena` allows, where the model takes `whole`."""
    is_share = not isinstance(value, numbers.Integral)
    return float(value) * (whole if is_share else 1.0)


def _check_ratio(kind: str, value: Any) -> None:
    if not _is_number(value) or not 0.0 <= value < 1.0:
        raise ValueError(
            f"`ratio` is the fraction of channels that go, in [0, 1), got {value!r}."
        )


def _check_amount(kind: str, value: Any) -> None:
    whole = isinstance(value, numbers.Integral) and _is_number(value)
    if whole and value >= 1:
        return
    if not _is_fraction(value):
        raise ValueError(
            f"`{kind}` is what stays: a fraction between 0 and 1 of the model's, or a "
            f"positive integer, which is a number of them; got {value!r}."
        )


def _check_latency(kind: str, value: Any) -> None:
    if isinstance(value, str) and (found := _LATENCY.fullmatch(value)):
        if float(found.group(1)) > 0:
            return
    elif _is_fraction(value):
        return
    raise ValueError(
        "`latency` is the time that stays: a fraction between 0 and 1 of the model's, "
        f'or milliseconds in a text such as "0.5 ms"; got {value!r}.'
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0.0 < value < 1.0
