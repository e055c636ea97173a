"""Which pages penjing wrote: no others are written over unasked."""

from __future__ import annotations

import os
from pathlib import Path

_MARK = '<meta name="generator" content="penjing {}">'
_HEAD = 2000  # characters in which the mark stands


def is_own_page(path: str | os.PathLike[str], job: str) -> bool:
    """Whether a file is a page that a job, such as "compare", wrote."""
    try:
        with Path(path).open(encoding="utf-8") as page:
            return _MARK.format(job) in page.read(_HEAD)
    except (OSError, UnicodeDecodeError):
        return False
