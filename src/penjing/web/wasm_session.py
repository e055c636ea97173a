"""`.tflite` files in LiteRT.js: loaded, run and timed on order."""

from __future__ import annotations

import itertools
import json
import queue
import secrets
import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.arguments import check_counts
from penjing.errors import CompressionError, DataError, FileFormatError
from penjing.runtime.interpreter import TensorSpec
from penjing.web.engines import ENGINES, EngineProcess
from penjing.web.local_server import (
    NOT_FOUND,
    LocalServer,
    Request,
    Response,
    file_response,
)
from penjing.web.npm_packages import RUNTIME, find_packages, pinned_versions

_SECONDS = 120
_LONG_POLL = 5.0
_PAGES = ("worker.html", "worker.mjs")

Array = np.ndarray[Any, Any]


class WasmSession:
    """LiteRT.js in a process of its own; it is a context manager.

    The engine is "node", which has one thread, or "chromium" for a browser without a
    window. `runtime` tells what runs the files, as "LiteRT.js 2.5.3 in Node 20.20.2".

    Raises:
        MissingDependencyError: If the engine or the npm packages are missing.
        CompressionError: If the runtime does not start.
        ValueError: If an argument is out of range.
    """

    def __init__(self, engine: str = "node", *, threads: int = 1) -> None:
        _check(engine, threads)
        self._packages = find_packages()
        self._orders: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._files: dict[str, bytes] = {}
        self._names = itertools.count()
        self._server = LocalServer(self._respond, secret=secrets.token_urlsafe(16))
        try:
            self._process = EngineProcess(engine, self._server.address, self._packages)
        except BaseException:
            self._server.close()
            raise
        try:
            self.runtime = self._start(threads)
        except BaseException:
            self.close()
            raise

    def _start(self, threads: int) -> str:
        """Let the worker load LiteRT.js; gives what runs it."""
        try:
            started, _ = self.ask({"do": "start", "threads": threads})
        except (CompressionError, WasmError) as error:
            raise CompressionError(
                f"LiteRT.js does not start: {str(error).rstrip('.')}.\nWhere files in "
                f"{self._packages} are damaged, penjing setup-wasm fetches them anew."
            ) from error
        return f"LiteRT.js {pinned_versions()['core']} in {started['engine']}"

    def load(self, content: bytes, where: str) -> WasmModel:
        """Load the bytes of a `.tflite` file; `where` is what messages call it.

        What LiteRT.js cannot load is a FileFormatError.
        """
        return WasmModel(self, content, where)

    def close(self) -> None:
        """End the process and the server."""
        self._process.close()
        self._server.close()

    def __enter__(self) -> WasmSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def serve(self, content: bytes) -> str:
        """Put bytes where the worker can fetch them once; gives their name."""
        name = f"file/{next(self._names)}"
        self._files[name] = content
        return name

    def ask(
        self, order: dict[str, Any], *, seconds: float = _SECONDS
    ) -> tuple[dict[str, Any], memoryview]:
        """Give an order, whose `do` is a method of the worker; wait for its answer.

        With it come the bytes of arrays behind it. A CompressionError says that the
        process ended, or did not answer in time, a WasmError that the order failed.
        """
        self._orders.put(json.dumps(order).encode())
        limit = time.monotonic() + seconds
        while True:
            try:
                body = self._answers.get(timeout=0.2)
                break
            except queue.Empty:
                self._check_alive(limit, seconds)
        (length,) = struct.unpack_from("<I", body)
        answer: dict[str, Any] = json.loads(body[4 : 4 + length])
        if "error" in answer:
            raise WasmError(" ".join(str(answer["error"]).split()).rstrip("."))
        return answer, memoryview(body)[4 + length :]

    def _check_alive(self, limit: float, seconds: float) -> None:
        code = self._process.exit_code
        if code is None and time.monotonic() < limit:
            return
        happened = (
            f"did not answer within {seconds:g} seconds"
            if code is None
            else f"ended with exit code {code}"
        )
        raise CompressionError(
            f"What runs LiteRT.js {happened}. Its last words: "
            f"{self._process.last_words() or '(none)'}"
        )

    def _respond(self, request: Request) -> Response:
        path = request.path
        if request.method == "POST":
            self._answers.put(request.body)
            return Response(204)
        if path == "order":
            try:
                return Response(200, self._orders.get(timeout=_LONG_POLL))
            except queue.Empty:
                return Response(204)
        if path in _PAGES:
            return file_response(RUNTIME, path)
        folder, _, name = path.partition("/")
        if folder == "packages":
            return file_response(self._packages / "node_modules", name)
        content = self._files.pop(path, None)
        return NOT_FOUND if content is None else Response(200, content)


class WasmError(Exception):
    """An order that failed, with the runtime's own words."""


class WasmModel:
    """A `.tflite` file in a `WasmSession`, or a FileFormatError if it cannot be loaded.

    `inputs` and `outputs` are in the order of the file's signature.
    """

    def __init__(self, session: WasmSession, content: bytes, where: str) -> None:
        self._session = session
        self._where = where
        self._name = secrets.token_hex(4)
        said, _ = self._ask("open", file=session.serve(content))
        self.inputs = tuple(_spec(item) for item in said["inputs"])
        self.outputs = tuple(_spec(item) for item in said["outputs"])

    def feed(self, arrays: Sequence[Array]) -> None:
        """Set the inputs of the next runs; a DataError if the arrays do not fit."""
        found = [(array.shape, array.dtype.name) for array in arrays]
        wanted = [(spec.shape, spec.dtype) for spec in self.inputs]
        fits = len(found) == len(wanted) and all(
            dtype == wanted_dtype and _fits(shape, wanted_shape)
            for (shape, dtype), (wanted_shape, wanted_dtype) in zip(
                found, wanted, strict=True
            )
        )
        if not fits:
            raise DataError(
                f"{self._where} takes inputs of the shapes and types {wanted} in "
                f"LiteRT.js, got {found}."
            )
        inputs = [
            {
                "file": self._session.serve(np.ascontiguousarray(array).tobytes()),
                "dtype": array.dtype.name,
                "shape": array.shape,
            }
            for array in arrays
        ]
        self._ask("feed", inputs=inputs)

    def run(self) -> list[Array]:
        """Run it once; gives one array for each output, in the order of `outputs`."""
        said, content = self._ask("run")
        arrays, start = [], 0
        for item in said["outputs"]:
            shape, dtype = tuple(item["shape"]), np.dtype(item["dtype"])
            stop = start + int(np.prod(shape, dtype="i8")) * dtype.itemsize
            arrays.append(np.frombuffer(content[start:stop], dtype).reshape(shape))
            start = stop
        return arrays

    def time(self, runs: int, *, cold_caches: bool = False) -> list[float]:
        """Time each run of a block, in milliseconds, with caches as they are."""
        said, _ = self._ask("time", seconds=_SECONDS + 5 * runs, runs=runs)
        return [float(value) for value in said["milliseconds"]]

    def close(self) -> None:
        """Free its memory."""
        self._ask("close")

    def _ask(
        self, do: str, *, seconds: float = _SECONDS, **order: Any
    ) -> tuple[dict[str, Any], memoryview]:
        try:
            return self._session.ask(
                {"do": do, "name": self._name, **order}, seconds=seconds
            )
        except WasmError as error:
            why = "The file is damaged, or it needs what this runtime does not have."
            if str(error).startswith("Element type"):
                why = (
                    "Its inputs and outputs must be float32, int32 or uint8; inside "
                    "any type will do: see `input_type` and `output_type` of "
                    "penjing.export_litert."
                )
            raise FileFormatError(
                f"LiteRT.js cannot run {self._where}: {error}. {why}"
            ) from error


def _check(engine: str, threads: int) -> None:
    if engine not in ENGINES:
        raise ValueError(f"`engine` must be one of {ENGINES}, got {engine!r}.")
    check_counts(threads=threads)
    if engine == "node" and threads > 1:
        raise ValueError(
            f"LiteRT.js has threads in browsers only, got threads={threads}. Use "
            "engine='chromium'."
        )


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size in (-1, given) for given, size in zip(shape, wanted, strict=True)
    )


def _spec(item: dict[str, Any]) -> TensorSpec:
    return TensorSpec(
        name=str(item["name"]), shape=tuple(item["shape"]), dtype=str(item["dtype"])
    )
