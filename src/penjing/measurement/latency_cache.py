"""Times that were measured on this machine, kept in a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penjing.errors import CompressionError
from penjing.files import DAMAGE, write_text

_NAME = "layer-times-2.json"  # The number changes with what is measured, or how.


class TimeCache:
    """Milliseconds by what was measured.

    The file lies in `folder`, by default `$PENJING_CACHE`, else `penjing` in
    `$XDG_CACHE_HOME` or `~/.cache`.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.path = (_default_folder() if folder is None else Path(folder)) / _NAME
        self._times = self._read()

    def get(self, description: Mapping[str, Any]) -> float | None:
        """The time of something described in JSON's types, None where unknown."""
        return self._times.get(_key(description))

    def add(self, times: list[tuple[Mapping[str, Any], float]]) -> None:
        """Keep times, beside those that other processes have added meanwhile.

        A folder that cannot be written costs the next run its time, not this one.
        """
        self._times = {**self._read(), **{_key(what): ms for what, ms in times}}
        with contextlib.suppress(OSError, CompressionError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(self._times))

    def _read(self) -> dict[str, float]:
        try:
            content = dict(json.loads(self.path.read_text("utf-8")))
        except DAMAGE:  # none yet, or damaged: measured again
            return {}
        return {
            key: float(value)
            for key, value in content.items()
            if isinstance(value, int | float) and value > 0
        }


def _key(description: Mapping[str, Any]) -> str:
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _default_folder() -> Path:
    chosen = os.environ.get("PENJING_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "penjing"
