"""Names of Keras layers in what converters write."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable


def layer_in(parts: Iterable[str], layers: Collection[str]) -> str | None:
    """The last part of a path that is the name of a layer; None where none is.

    Tracing puts a number behind names that are there already.

    Example:
        >>> layer_in(["functional_1", "gate_1", "Gelu"], ["gate", "functional"])
        'gate'
    """
    for part in reversed(list(parts)):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in layers:
                return name
    return None
