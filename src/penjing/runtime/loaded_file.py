"""A `.tflite` file that is loaded, here or in a process of its own, and runs."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from penjing.errors import FileFormatError
from penjing.runtime import litert_worker
from penjing.runtime.file_bounds import bounds_for, ended, most_output, unrunnable
from penjing.runtime.silence import captured_output
from penjing.runtime.worker_process import OrderError, WorkerEndError, WorkerProcess

_MOST_IDLE = 2
_IDLE_BYTES = 64 * 2**20  # of a file that an idle process may still hold
# Processes that wait for the next file: starting one takes half a second.
_idle: list[WorkerProcess] = []
_of_other_programs: list[WorkerProcess] = []  # after a fork they are the parent's
Array = np.ndarray[Any, Any]


class LoadedFile(Protocol):
    """What a file takes and gives, and what runs it.

    `description` has a dict for each of its inputs and outputs, and the signatures.
    """

    description: dict[str, Any]

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run it once on arrays in the stored types; gives one for each output."""


class FileHere:
    """A file in this process: for files that penjing wrote, or that are trusted.

    What the runtime refuses is one of its own errors.
    """

    def __init__(self, content: bytes, threads: int) -> None:
        self._worker = litert_worker.Worker()
        self._shapes: list[tuple[int, ...]] = []
        with captured_output():
            self.description = self._worker.open(content, threads)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run it; see `LoadedFile`."""
        shapes = [array.shape for array in arrays]
        as_before, self._shapes = shapes == self._shapes, []
        with contextlib.nullcontext() if as_before else captured_output():
            outputs: list[Array] = self._worker.run(list(arrays))["outputs"]
        self._shapes = shapes
        return outputs


class FileElsewhere:
    """A file in another process, within bounds of memory and time.

    The process ends or takes another file when this object is gone. A file that the
    runtime cannot load is a FileFormatError, and so is one that crashes it or is beyond
    the bounds; inputs that the file refuses are an OrderError.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path.resolve()
        self._where = str(path)
        self._threads = threads
        self._size, self._changed = _stamp(path)
        self._turn = threading.Lock()
        self._release: Any = None
        self.description = self._start()

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run it; see `LoadedFile`."""
        inputs = sum(array.nbytes for array in arrays)
        bounds = bounds_for(self._size, inputs=inputs, threads=self._threads)
        with self._turn:
            if self._program != os.getpid():  # after a fork
                _of_other_programs.append(self._worker)
                self._forget()
            if self._release is None:
                self._start()
            try:
                answer = self._worker.ask(
                    "run", bounds=bounds, inputs=list(arrays), most=most_output(inputs)
                )
            except WorkerEndError as error:
                self._end()
                advice = "Use a smaller `batch_size`. " if len(arrays[0]) > 1 else ""
                raise ended(self._where, error, advice=advice) from error
            except KeyboardInterrupt:  # which ended the process
                self._end()
                raise
        return list(answer["outputs"])

    def _start(self) -> dict[str, Any]:
        """Load the file into a process that has none, a new one if need be."""
        worker = _idle_worker()
        if worker is not None:
            with contextlib.suppress(OrderError, WorkerEndError):
                return self._open(worker)  # else it may have been tired
        try:
            return self._open(_new_worker())
        except OrderError as error:
            raise unrunnable(self._where, error) from error
        except WorkerEndError as error:
            raise ended(self._where, error) from error

    def _open(self, worker: WorkerProcess) -> dict[str, Any]:
        try:
            self._check_unchanged()
            described = worker.ask(
                "open",
                bounds=bounds_for(self._size, threads=self._threads),
                file=str(self._path),
                threads=self._threads,
            )
        except BaseException:
            worker.close()
            raise
        self._worker, self._program = worker, os.getpid()
        self._release = weakref.finalize(
            self, _release, worker, self._size, self._program
        )
        return described

    def _check_unchanged(self) -> None:
        """Refuse another file at the path: it has other scales and shapes."""
        with contextlib.suppress(OSError):  # what is gone is told where it is read
            if _stamp(self._path) != (self._size, self._changed):
                raise FileFormatError(
                    f"{self._where} was changed since it was loaded. Load it again."
                )

    def _end(self) -> None:
        self._forget()
        self._worker.close()

    def _forget(self) -> None:
        if self._release is not None:
            self._release.detach()
            self._release = None


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def end_idle() -> None:
    """End the processes that wait for a file."""
    while _idle:
        _idle.pop().close()


def _new_worker() -> WorkerProcess:
    return WorkerProcess(litert_worker.__file__, memory=bounds_for(0).memory)


def _idle_worker() -> WorkerProcess | None:
    while _idle:
        with contextlib.suppress(IndexError):  # another thread was faster
            worker = _idle.pop()
            if worker.process.poll() is None and worker.folder.exists():
                return worker
            worker.close()
    return None


def _release(worker: WorkerProcess, size: int, program: int) -> None:
    if program != os.getpid():
        _of_other_programs.append(worker)
    elif size <= _IDLE_BYTES and len(_idle) < _MOST_IDLE:
        _idle.append(worker)
    else:
        worker.close()


def _leave_to_parent() -> None:
    _of_other_programs.extend(_idle)
    _idle.clear()


atexit.register(end_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
