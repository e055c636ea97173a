"""Starting what runs WebAssembly: Node, or a browser without a window."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, cast

from penjing.errors import CompressionError, MissingDependencyError
from penjing.files import temporary_folder
from penjing.web.npm_packages import RUNTIME, find_node

ENGINES = ("node", "chromium")
"""What files can be run in."""

BROWSER_VARIABLE = "PENJING_BROWSER"
_PROGRAMS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
_FLAGS = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--mute-audio",
    # A page in the background would be slowed down.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
_LOG_TAIL = 20_000
_LAST_LINES = 8
_NOISE = re.compile(r"^(INFO|WARNING|VERBOSE):|:ERROR:dbus/")


def find_browser() -> str:
    """Give the path of a browser of Chromium's family; refuse where there is none."""
    named = os.environ.get(BROWSER_VARIABLE)
    candidates = [named] if named else [*_PROGRAMS, *_PLACES]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found:
            return found
    looked = repr(named) if named else "chromium, google-chrome or microsoft-edge"
    raise MissingDependencyError(
        f"engine='chromium' needs Chromium, Chrome or Edge, and {looked} was not "
        f"found. Install one, name its program in the variable {BROWSER_VARIABLE}, or "
        "use engine='node'."
    )


class EngineProcess:
    """Node or a browser (`ENGINES`), at work on the orders of a server on this machine.

    The server's address has a slash at the end; it is told in no command line, which
    others can read. A MissingDependencyError says that the engine is not installed, a
    CompressionError that it cannot be started.
    """

    def __init__(self, engine: str, address: str, packages: Path) -> None:
        if engine == "node":
            command = [find_node(), str(RUNTIME / "node.mjs"), str(packages)]
        else:
            command = [find_browser()]
        self._stack = contextlib.ExitStack()
        folder = self._stack.enter_context(temporary_folder("penjing-wasm"))
        if engine != "node":
            command += [
                *_FLAGS,
                # Chromium's own walls need rights that containers do not give root.
                *(["--no-sandbox"] if _is_root() else []),
                f"--user-data-dir={folder}",
                _start_page(folder, address).as_uri(),
            ]
        log = tempfile.TemporaryFile()  # noqa: SIM115, closed with the stack
        self._log: IO[bytes] = self._stack.enter_context(log)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                start_new_session=sys.platform != "win32",
            )
        except OSError as error:
            self._stack.close()
            raise CompressionError(
                f"Cannot start {command[0]}: {error.strerror or error}."
            ) from error
        with contextlib.suppress(OSError):  # it ended at once
            cast(IO[bytes], self._process.stdin).write(address.encode())
        with contextlib.suppress(OSError):
            cast(IO[bytes], self._process.stdin).close()

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process, None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """The end of what the process logged, without what it logs on good days."""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL))
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        return "\n".join(
            [line for line in lines if not _NOISE.search(line)][-_LAST_LINES:]
        )

    def close(self) -> None:
        """End the process, and those that it started."""
        if self._process.poll() is None:
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._stack.close()


def _start_page(folder: Path, address: str) -> Path:
    """A page that sends the browser to an address.

    The address holds a secret, and what stands in a command line others can read.
    """
    page = folder / "start.html"
    page.write_text(
        f"<!doctype html><script>location.replace({json.dumps(address)} + "
        '"worker.html")</script>\n'
    )
    return page


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
