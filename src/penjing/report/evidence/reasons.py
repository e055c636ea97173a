"""Why something is not there, in a line."""

from __future__ import annotations

import re

_MAX_LENGTH = 400
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def reason_of(error: BaseException) -> str:
    """What an error says, in a line without colors; its kind where that is empty.

    Example:
        >>> reason_of(ValueError("no  file")), reason_of(KeyError())
        ('no file', 'KeyError')
    """
    text = " ".join(_COLORS.sub("", str(error)).split())
    return text[:_MAX_LENGTH] or type(error).__name__
