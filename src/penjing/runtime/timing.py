"""A `.tflite` file that runs in a process of its own and says how long it took."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penjing.errors import DataError, FileFormatError, require_extra
from penjing.files import as_path
from penjing.json_values import JsonValue
from penjing.runtime import litert_worker
from penjing.runtime.file_bounds import bounds_for, ended, refuse_packed, unrunnable
from penjing.runtime.operator_files import single_operators
from penjing.runtime.product_files import KernelProduct, write_product
from penjing.runtime.sample_inputs import make_inputs
from penjing.runtime.worker_process import (
    Bounds,
    OrderError,
    WorkerEndError,
    WorkerProcess,
)
from penjing.tflite.loading import read_litert

_TIMES_SLOWER = 10  # A run than the first one.
_SECONDS_PER_FILE = 0.2  # Of many small ones.
_PRODUCT_ROUNDS = 7
_PRODUCT_NANOSECONDS = 2_000_000  # Of one product in one round.
_WORKER = litert_worker.__file__


class TimedFile:
    """A `.tflite` file in a process that stays alive and runs when it is told to.

    A hostile file can crash the runtime, and memory can only be told apart where
    nothing else runs. It is a context manager: the process ends with the block.

    Args:
        path: The file.
        threads: Threads that the runtime may use.
        batch: Samples of an input whose batch is free. Other free sizes are 32.

    Attributes:
        batch: Samples that one run takes.
        memory: Bytes by which the process grew at most while it loaded the file and ran
            it once: weights, the copies that kernels make of them, and activations.
            None where the system does not tell.

    Raises:
        FileFormatError: If the file is missing, corrupt, or does not run.
        DataError: If an input takes texts or the like, or a batch is too large.
        MissingDependencyError: If the runtime is not installed.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, threads: int = 1, batch: int = 1
    ) -> None:
        self.path = litert_path(path)
        content = read_litert(self.path)
        refuse_packed(content, str(self.path))
        require_extra("ai_edge_litert.interpreter", "litert")
        self._where = str(self.path)
        self._size, self._threads = len(content), threads
        self.batch, self._inputs, self._seconds = 1, 0, 0.0
        self._worker = WorkerProcess(_WORKER, memory=self._bounds().memory)
        try:
            file = _readable(self.path, self._worker)
            inputs = self._ask("load", file=file, threads=threads)["inputs"]
            arrays = self._make_inputs(inputs, batch)
            self._inputs = sum(array.nbytes for array in arrays)
            self.batch = int(arrays[0].shape[0]) if arrays and arrays[0].ndim else 1
            start = time.monotonic()
            self.memory: int | None = self._ask("weigh", inputs=arrays)["memory"]
            self._seconds = time.monotonic() - start
        except BaseException:
            self.close()
            raise

    def _ask(self, method: str, runs: int = 0, **arguments: Any) -> dict[str, Any]:
        if runs:
            arguments["runs"] = runs
        bounds = self._bounds(runs)
        return _ask(self._worker, self._where, bounds, method, **arguments)

    def _bounds(self, runs: int = 0) -> Bounds:
        bounds = bounds_for(
            self._size,
            inputs=self._inputs if self.batch > 1 else 0,  # as the caller wants it
            declared=self._inputs,
            threads=self._threads,
        )
        longer = int(_TIMES_SLOWER * runs * self._seconds) * self._threads
        return dataclasses.replace(bounds, seconds=bounds.seconds + longer)

    def _make_inputs(self, inputs: Any, batch: int) -> list[Any]:
        try:
            return make_inputs(inputs, batch)
        except MemoryError as error:
            raise DataError(
                f"A batch of {batch} samples for {self.path} does not fit into memory. "
                "Choose a smaller one."
            ) from error

    def time(self, runs: int, *, cold_caches: bool = False) -> list[float]:
        """Run a block and time each run in it; gives milliseconds.

        `cold_caches` touches 64 MB of memory before each run, as a program that does
        other work in between.
        """
        answer = self._ask("time", runs=runs, cold=cold_caches)
        return [value / 1e6 for value in answer["nanoseconds"]]

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def __enter__(self) -> TimedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def time_products(
    products: Sequence[KernelProduct], quantization: str | None, threads: int
) -> list[float]:
    """Time single products, in turns in one process.

    Gives milliseconds of each: the lower quartile over rounds, with what starting the
    runtime takes. `quantization` is that of one of `product_files.PRODUCT_MODES`.
    """
    files = [write_product(product, quantization) for product in products]
    times = _time_small(files, threads, "a layer by itself")
    if None in times:
        raise FileFormatError(
            f"LiteRT cannot run {products[times.index(None)]} by itself with "
            f"quantization={quantization!r}."
        )
    return [ms for ms in times if ms is not None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatorTime(JsonValue):
    """What one operator of a file takes by itself.

    Attributes:
        name: Its name in the schema, as "CONV_2D".
        shape: Shape of its first output, for a batch of 1.
        milliseconds: Time by itself, without what starting the runtime takes; None
            where it cannot run by itself, as a loop.
    """

    name: str
    shape: tuple[int, ...]
    milliseconds: float | None


def time_operators(
    path: str | os.PathLike[str], threads: int = 1
) -> list[OperatorTime]:
    """Time each operator of a file's main graph by itself, at a batch of 1, in order.

    A file that is missing, corrupt or crashes the runtime is a FileFormatError.
    """
    file = litert_path(path)
    operators = single_operators(read_litert(file), str(file))
    empty = write_product(KernelProduct(kind="dense", inputs=8, outputs=8), None)
    alone = [item.content for item in operators if item.content is not None]
    start, *taken = _time_small([empty, *alone], threads, str(file))
    times = iter(taken)
    found = [next(times) if item.content is not None else None for item in operators]
    return [
        OperatorTime(
            name=item.name,
            shape=item.shape,
            milliseconds=None if ms is None else max(ms - (start or 0.0), 0.0),
        )
        for item, ms in zip(operators, found, strict=True)
    ]


def _time_small(
    contents: Sequence[bytes], threads: int, where: str
) -> list[float | None]:
    """Milliseconds of each file, in turns in one process; None for those that fail."""
    require_extra("ai_edge_litert.interpreter", "litert")
    bounds = bounds_for(sum(map(len, contents)), threads=threads)
    longer = int(_SECONDS_PER_FILE * len(contents)) * threads
    bounds = dataclasses.replace(bounds, seconds=bounds.seconds + longer)
    with WorkerProcess(_WORKER, memory=bounds.memory) as worker:
        files = [worker.folder / f"{n}.tflite" for n in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        answer = _ask(
            worker,
            where,
            bounds,
            "time_many",
            files=[str(file) for file in files],
            threads=threads,
            rounds=_PRODUCT_ROUNDS,
            nanoseconds=_PRODUCT_NANOSECONDS,
        )
    return [None if ns is None else ns / 1e6 for ns in answer["nanoseconds"]]


def _readable(path: Path, worker: WorkerProcess) -> str:
    """The path of a file as LiteRT reads it: where its name is no UTF-8, of a copy."""
    name = str(path.resolve())
    try:
        name.encode()
    except UnicodeEncodeError:
        name = shutil.copyfile(name, worker.folder / "copy.tflite").as_posix()
    return name


def _ask(
    worker: WorkerProcess, where: str, bounds: Bounds, method: str, **arguments: Any
) -> dict[str, Any]:
    try:
        return worker.ask(method, bounds=bounds, **arguments)
    except OrderError as error:
        raise unrunnable(where, error) from error
    except WorkerEndError as error:
        raise ended(where, error) from error


def litert_path(path: str | os.PathLike[str]) -> Path:
    """Give the path of a file to measure; a Keras model is a FileFormatError."""
    checked = as_path(path)
    if checked.suffix.lower() in (".keras", ".h5", ".hdf5"):
        raise FileFormatError(
            f"{checked} is a Keras model, and times are those of the deployed file: "
            "write one with penjing.export_litert(model, 'model.tflite') first."
        )
    return checked
