"""A web server for this machine alone, whose pages may use threads."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import io
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

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
MAX_BODY = 2**29
"""Bytes that a request may bring, once it has shown that it may."""
REQUEST_SECONDS = 30.0
"""Time for a request to arrive, and for its answer to be taken."""
KNOWN_SECONDS = 24 * 3600.0
"""The same for what comes after a request that knew the secret: it may compute."""
MAX_CONNECTIONS = 64


@dataclasses.dataclass(frozen=True)
class Request:
    """What a browser asks for, with "GET" or "POST", and what it brings.

    The path is without the slash that it begins with, without a query, and without the
    secret of the server, if it has one.
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

    Requests that name another host, or do not know the secret, are refused before
    anything that they bring is read: a page from elsewhere cannot read what is served
    here, nor fill the memory. `respond` is called for each other request, in a thread
    of its own. Port 0 takes a free one, a taken one is an OSError. The address has the
    secret, if there is one, and ends with a slash.
    """

    def __init__(self, respond: Responder, port: int = 0, *, secret: str = "") -> None:
        bound = {"respond": staticmethod(respond), "secret": secret}
        self._server = _Server((_HOST, port), type("_Bound", (_Handler,), bound))
        self.address = f"http://{_HOST}:{self._server.server_address[1]}/"
        self.address += f"{secret}/" if secret else ""
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
    request_queue_size = MAX_CONNECTIONS
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._places = threading.Semaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Close what is one connection too many, without a word."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection, and give its place to another."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, *address: Any) -> None:
        """Say nothing of browsers that go away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*address)


class _TimedStream(io.RawIOBase):
    """What comes through a socket, until a deadline; then reading is a TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True  # else each answer waits 40 ms for a receipt
    respond: Responder
    secret: str
    is_known = False

    def setup(self) -> None:
        super().setup()
        self._stream = _TimedStream(self.connection)
        self.rfile = io.BufferedReader(self._stream)

    def handle_one_request(self) -> None:
        """Answer a request; one that does not arrive in time ends the connection."""
        seconds = KNOWN_SECONDS if self.is_known else REQUEST_SECONDS
        self._stream.deadline = time.monotonic() + seconds
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):  # it went away, or reads no answer
            self.close_connection = True

    def handle_expect_100(self) -> bool:
        """Invite a body only from those that may bring one."""
        refusal = self._refusal()
        if refusal is None:
            return super().handle_expect_100()
        self._refuse(refusal)
        return False

    def do_GET(self) -> None:  # noqa: N802, the base class calls it so
        refusal = self._refusal()
        if refusal is not None:
            self._refuse(refusal)
            return
        if self._length() or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # a body that nobody reads
        self._answer(b"")

    def do_POST(self) -> None:  # noqa: N802
        refusal, length = self._refusal(), self._length()
        if refusal is None and not 0 <= length <= MAX_BODY:
            refusal = Response(413)
        if refusal is not None:
            self._refuse(refusal)
            return
        body = self.rfile.read(length)
        if len(body) < length:  # it went away in the middle
            self.close_connection = True
            return
        self._answer(body)

    def _refusal(self) -> Response | None:
        """Why a request is not answered, by what stands at its head."""
        port = cast(_Server, self.server).server_port
        hosts = self.headers.get_all("Host") or [""]
        ours = re.compile(rf"({re.escape(_HOST)}|localhost)(:{port})?", re.IGNORECASE)
        if len(hosts) > 1 or not ours.fullmatch(hosts[0].strip()):
            return Response(403)
        known = self._path().partition("/")[0] if self.secret else ""
        if not secrets.compare_digest(known.encode(), self.secret.encode()):
            return NOT_FOUND
        return None

    def _refuse(self, response: Response) -> None:
        self.close_connection = True  # what else it brings is not read
        self._send(response)

    def _length(self) -> int:
        """Bytes of the body that a request announces; -1 where it makes no sense."""
        said = self.headers.get_all("Content-Length") or []
        if not said:
            return 0 if self.command == "GET" else -1
        digits = said[0].strip()
        if len(said) > 1 or not re.fullmatch("[0-9]{1,18}", digits):
            return -1
        return int(digits)

    def _path(self) -> str:
        return self.path.partition("?")[0].lstrip("/")

    def _answer(self, body: bytes) -> None:
        path = self._path()
        if self.secret:
            self.is_known = True
            path = path.partition("/")[2]
        self._send(type(self).respond(Request(self.command, path, body)))

    def _send(self, response: Response) -> None:
        with contextlib.suppress(OSError):  # a connection that is gone already
            self.connection.settimeout(REQUEST_SECONDS)
        try:
            self.send_response(response.status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", response.type)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # it went away before it got an answer

    def log_message(self, *_: object) -> None:
        """Say nothing: requests are no news."""
