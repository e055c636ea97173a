"""Serving the page: its own files, the two models, and the runtime."""

from __future__ import annotations

import os
from pathlib import Path

from penjing.errors import CompressionError
from penjing.web.local_server import (
    NOT_FOUND,
    LocalServer,
    Request,
    Response,
    file_response,
)
from penjing.web.npm_packages import find_packages

PAGE = Path(__file__).parent / "page"
"""The page: HTML, CSS and JavaScript."""

_MODELS = ("dense.tflite", "sparse.tflite", "demo.json", "pictures.bin")


def serve_page(folder: str | os.PathLike[str], port: int = 0) -> LocalServer:
    """Serve the page with the files of `build_browser_files`, on 127.0.0.1.

    Port 0 takes a free one. The server stops when it is closed. A
    MissingDependencyError says that the npm packages were not fetched, a
    CompressionError that the port is taken.
    """
    packages = find_packages() / "node_modules"
    models = Path(folder)

    def respond(request: Request) -> Response:
        start, _, rest = request.path.partition("/")
        if start == "packages":
            return file_response(packages, rest)
        if start == "models":
            return file_response(models, rest) if rest in _MODELS else NOT_FOUND
        return file_response(PAGE, request.path or "index.html")

    try:
        return LocalServer(respond, port)
    except OSError as error:
        raise CompressionError(
            f"Cannot serve on 127.0.0.1:{port}: {error.strerror or error}. Choose "
            "another port with --port, or leave it out for a free one."
        ) from error
