"""A browser without a window, for pages that are files; one process for all tests."""

import contextlib
import os

import pytest

from penjing.errors import MissingDependencyError
from penjing.web.engines import find_browser


def _missing():
    try:
        find_browser()
    except MissingDependencyError as error:
        return str(error).splitlines()[0]
    return ""


needs_browser = pytest.mark.skipif(bool(_missing()), reason=_missing())


@contextlib.contextmanager
def started_browser():
    """A function that opens a page, which notes what goes wrong and what it loads."""
    playwright = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_browser(), args=flags)

        def open_page(path, **options):
            page = browser.new_context(offline=True, **options).new_page()
            page.problems, page.loaded = [], []
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            page.on("console", lambda message: page.problems.append(message.text))
            page.on("request", lambda request: page.loaded.append(request.url))
            page.goto(path.as_uri())
            return page

        yield open_page
        browser.close()
