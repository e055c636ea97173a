"""A web server for this machine alone, whose pages may use threads."""

from __future__ import annotations

import dataclasses
import http.server
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

_HOST = "127.0.0.1"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
_HEADERS = {
    # Both together isolate the page from others: browsers then give it threads, and
    # clocks of 5 microseconds where they else have 100.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
MAX_BODY = 2**30
"""Bytes that a request may bring."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What a browser asks for, with "GET" or "POST", and what it brings.

    The path is without the slash that it begins with and without a query.
    """

    method: str
    path: str
    body: bytes = b""


@dataclasses.dataclass(frozen=True)
class Response:
    """What it gets: a status of HTTP, the content and its type."""

    status: int = 200
    body: bytes = b""
    type: str = "application/octet-stream"


NOT_FOUND = Response(404, b"Not found.", "text/plain")
Responder: TypeAlias = Callable[[Request], Response]


class LocalServer:
    """Serves on 127.0.0.1 until it is closed; it is a context manager.

    Requests that name another host are refused: a page from elsewhere cannot read what
    is served here. `respond` is called for each request, in a thread of its own. Port 0
    takes a free one, a taken one is an OSError. The address ends with a slash.
    """

    def __init__(self, respond: Responder, port: int = 0) -> None:
        handler = type("_Bound", (_Handler,), {"respond": staticmethod(respond)})
        self._server = _Server((_HOST, port), handler)
        self.address = f"http://{_HOST}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def file_response(folder: Path, name: str) -> Response:
    """Give a file by its path in a folder, with slashes; `NOT_FOUND` outside it."""
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return NOT_FOUND
        content = path.read_bytes()
    except (OSError, ValueError):  # a name that is too long, a file that is locked
        return NOT_FOUND
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return Response(200, content, kind)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *address: Any) -> None:
        """Say nothing of browsers that go away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True  # else each answer waits 40 ms for a receipt
    respond: Responder

    def do_GET(self) -> None:  # noqa: N802, the base class calls it so
        self._answer(b"")

    def do_POST(self) -> None:  # noqa: N802
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self._send(Response(413))
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if len(body) < length:  # it went away in the middle
            self.close_connection = True
            return
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        host = self.headers.get("Host", "").partition(":")[0]
        if host not in (_HOST, "localhost"):
            self._send(Response(403))
            return
        path = self.path.partition("?")[0].lstrip("/")
        self._send(type(self).respond(Request(self.command, path, body)))

    def _send(self, response: Response) -> None:
        try:
            self.send_response(response.status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", response.type)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # it went away before it got an answer

    def log_message(self, *_: object) -> None:
        """Say nothing: requests are no news."""
