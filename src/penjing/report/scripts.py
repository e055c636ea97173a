"""The code of a page, and what the page allows itself: nothing but that code."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
from importlib import resources

_FOLDER = "vega"
_PAGE, _VEGA = "page.js", "vega.js"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclasses.dataclass(frozen=True)
class Scripts:
    """The scripts of a page, in their order, and the policy that allows no other."""

    codes: tuple[str, ...]
    policy: str


@functools.cache
def page_scripts(*, charts: bool, tables: bool) -> Scripts:
    """Give what a page needs that draws charts, or that sorts tables.

    The policy goes into the page: with it a browser loads nothing from elsewhere and
    runs no other code, whatever stands in the page.
    """
    names = [_VEGA] * charts + [_PAGE] * (charts or tables)
    codes = tuple(map(_read, names))
    allowed = " ".join(f"'sha256-{_digest(code)}'" for code in codes)
    policy = f"{_POLICY}; script-src {allowed}" if codes else _POLICY
    return Scripts(codes=codes, policy=policy)


def _read(name: str) -> str:
    return (resources.files("penjing.report") / _FOLDER / name).read_text("utf-8")


def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
