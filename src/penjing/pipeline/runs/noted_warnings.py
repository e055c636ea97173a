"""Warnings that are shown as ever, and written down."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from penjing.errors import CompressionWarning


@contextlib.contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """Give a list that grows by each text that penjing warns of in the block.

    Example:
        >>> with noted_warnings() as notes:
        ...     warnings.warn("look", CompressionWarning)  # doctest: +SKIP
        >>> notes  # doctest: +SKIP
        ['look']
    """
    notes: list[str] = []
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], *rest: Any, **more: Any
        ) -> None:
            if issubclass(category, CompressionWarning) and str(message) not in notes:
                notes.append(str(message))
            shown(message, category, *rest, **more)

        warnings.showwarning = show
        yield notes
