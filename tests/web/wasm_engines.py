"""Marks of tests that run files in WebAssembly; without an engine they are skipped."""

import pytest

from penjing.errors import MissingDependencyError
from penjing.web.engines import find_browser
from penjing.web.npm_packages import find_node, find_packages


def _missing(engine: str) -> str:
    try:
        find_packages()
        find_node() if engine == "node" else find_browser()
    except MissingDependencyError as error:
        return str(error).splitlines()[0]
    return ""


needs_node = pytest.mark.skipif(bool(_missing("node")), reason=_missing("node"))
needs_browser = pytest.mark.skipif(
    bool(_missing("chromium")), reason=_missing("chromium")
)
