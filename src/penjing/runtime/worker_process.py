"""Work in a process of its own: started, limited, asked and ended in one way.

Both ends are here. A program holds a `WorkerProcess`, which runs this file as a script;
the script makes the `Worker` that it is told and calls its methods. It imports neither
Keras nor penjing unless the worker does, so it starts in a fifth of a second.

An order and its answer are one line of JSON each; their arrays lie in a folder that
both ends share. Lines before the answer are what the worker tells of its work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import json
import os
import queue
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import traceback
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

_SENT, _GIVEN, _LOG = "sent.npz", "given.npz", "log.txt"
_LOG_TAIL = 1500
_ARRAY = "__array__"
_TOLD = '{"told": '


class OrderError(Exception):
    """An order that failed: name of the error's class, and the worker's own words."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text or kind)
        self.kind = kind


class WorkerEndError(Exception):
    """A worker that crashed, or was ended at a limit of time.

    Its exit code is negative for a signal. `seconds` is the limit that it reached; None
    where it crashed. `last_words` end what it logged.
    """

    def __init__(self, exit_code: int, seconds: float | None, last_words: str) -> None:
        super().__init__(f"The worker ended with exit code {exit_code}. {last_words}")
        self.exit_code = exit_code
        self.seconds = seconds
        self.last_words = last_words


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one order may take.

    Attributes:
        memory: Bytes, besides what the process reserved before its first order.
        seconds: Seconds of processor time.
    """

    memory: int
    seconds: int


class WorkerProcess:
    """A process that does what it is told, one order after the other.

    It is a context manager: the process and its folder, for files of both ends, go with
    the block. They go too where this program is killed. Ctrl-C reaches this program
    alone.

    Args:
        source: What defines the class `Worker`: the path of a script, or the name of a
            module.
        memory: Bytes that it may take once it has started; None: no limit.
        seconds: Seconds of processor time that it may take; None: no limit.
        environment: Variables that it gets besides those of this program.
        python: The words of a command that runs Python; None: what runs this program.
    """

    def __init__(
        self,
        source: str,
        *,
        memory: int | None = None,
        seconds: int | None = None,
        environment: Mapping[str, str] | None = None,
        python: Sequence[str] | None = None,
    ) -> None:
        # Here, as the other process runs this module alone.
        from penjing.files import installed_places, temporary_folder

        self._seconds = seconds
        self._turn = threading.Lock()
        limits = json.dumps({"memory": memory, "seconds": seconds})
        own = {"PYTHONPATH": os.pathsep.join(installed_places())}
        if memory is not None:
            own["OPENBLAS_NUM_THREADS"] = "1"  # each reserves memory
        # Without the folder of the script in the path: it would hide modules.
        words = [*(python or [sys.executable]), "-P", __file__]
        with contextlib.ExitStack() as stack:
            self.folder = stack.enter_context(temporary_folder("penjing-work"))
            self.process = _started(
                [*words, source, str(self.folder), limits],
                {**os.environ, **own, **(environment or {})},
                self.folder / _LOG,
            )
            stack.callback(self._end)
            self._stack = stack.pop_all()

    def ask(
        self,
        method: str,
        *,
        seconds: float | None = None,
        bounds: Bounds | None = None,
        listen: Callable[[Any], None] | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Let the worker call one of its methods, and wait for what it returns.

        Arguments and results are of types that JSON has, and arrays, also within lists
        and dicts. A worker that takes longer than `seconds` is ended; None is no limit.
        `bounds` hold from this order on, instead of what the worker was started with;
        without `seconds`, it is also ended after twice their time. What the method
        gives to the worker's `tell`, of types that JSON has, goes to `listen`.
        An OrderError says that the method raised, a WorkerEndError that the worker
        ended before it answered. Threads wait for their turn. An interrupt ends it.
        """
        with self._turn:
            if bounds is not None:
                self._seconds = bounds.seconds
                seconds = 2 * bounds.seconds if seconds is None else seconds
            limits = None if bounds is None else dataclasses.asdict(bounds)
            order = _encoded([method, arguments, limits], self.folder / _SENT)
            return self._answered(order, seconds, listen)

    def _answered(
        self, order: str, seconds: float | None, listen: Callable[[Any], None] | None
    ) -> dict[str, Any]:
        late = threading.Event()
        limit = threading.TIMEOUT_MAX if seconds is None else seconds
        alarm = threading.Timer(limit, self._stop, [late])
        alarm.daemon = True  # an interrupt may come before `try`, and then it is left
        alarm.start()
        try:
            line = self._exchanged(order, listen)
        except BaseException:  # an interrupt: the next order must not get this answer
            self.process.kill()
            self.process.wait()
            raise
        finally:
            alarm.cancel()
        try:
            answer = _decoded(line, self.folder / _GIVEN)
        except (OSError, ValueError, LookupError, zipfile.BadZipFile):
            if line:  # it lives, and says what makes no sense
                self.process.kill()
            raise self._ended(seconds if late.is_set() else None) from None
        if "error" in answer:
            raise OrderError(answer["kind"], answer["error"])
        return dict(answer["result"])

    def _exchanged(self, order: str, listen: Callable[[Any], None] | None) -> str:
        """Send a line and wait for the answer; none where the worker ends."""
        stdin = cast(IO[str], self.process.stdin)
        try:
            stdin.write(order)
            stdin.flush()
        except (OSError, ValueError):
            return ""
        while (told := _told(line := self._line())) is not None:
            if listen is not None:
                listen(told["told"])
        return line

    def _line(self) -> str:
        try:
            return cast(IO[str], self.process.stdout).readline()
        except (OSError, ValueError):
            return ""

    def _stop(self, late: threading.Event) -> None:
        late.set()
        self.process.kill()

    def _ended(self, seconds: float | None) -> WorkerEndError:
        code = self.process.wait()
        if code == -getattr(signal, "SIGXCPU", 0):
            seconds = self._seconds
        log = (self.folder / _LOG).read_bytes()
        words = log.decode("utf-8", "replace").strip()[-_LOG_TAIL:]
        return WorkerEndError(code, seconds, words)

    def _end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def close(self) -> None:
        """End the process, and remove its folder."""
        self._stack.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _started(
    arguments: list[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[str]:
    with open(log, "wb") as file:
        return subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )


def _encoded(value: Any, file: Path) -> str:
    """One line for a value; its arrays go to a file."""
    arrays: list[np.ndarray] = []

    def placed(part: Any) -> dict[str, int]:
        if not isinstance(part, np.ndarray):
            raise TypeError(f"JSON has no {type(part).__name__}.")
        arrays.append(part)
        return {_ARRAY: len(arrays) - 1}

    line = json.dumps(value, default=placed) + "\n"
    if arrays:
        np.savez(file, *arrays)
    return line


def _decoded(line: str, file: Path) -> Any:
    arrays: list[np.ndarray] = []
    if f'"{_ARRAY}"' in line:
        with np.load(file, allow_pickle=False) as stored:
            arrays = [stored[name] for name in stored.files]
    return json.loads(
        line, object_hook=lambda part: arrays[part[_ARRAY]] if _ARRAY in part else part
    )


def _told(line: str) -> dict[str, Any] | None:
    """What a line tells of the work; None if it is an answer, or makes no sense."""
    if not line.startswith(_TOLD):
        return None
    try:
        return dict(json.loads(line))
    except ValueError:
        return None


def _serve(source: str, folder: Path, limits: str) -> None:
    """The worker's end: call what is asked for, for as long as somebody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program decides what ends
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, folder), daemon=True).start()
    reserved = _reserved()
    _limit(**json.loads(limits), reserved=reserved)
    is_script = source.endswith(".py")
    defined = (
        runpy.run_path(source) if is_script else vars(importlib.import_module(source))
    )
    worker = defined["Worker"]()
    worker.tell = functools.partial(_tell, answers)
    while True:
        line = orders.get()
        try:
            method, arguments, bounds = _decoded(line, folder / _SENT)
            _limit(**(bounds or {}), reserved=reserved)
            result = getattr(worker, method)(**arguments)
            answer = _encoded({"result": result}, folder / _GIVEN)
        except Exception as error:
            said = {"kind": type(error).__name__, "error": str(error)}
            answer = json.dumps(said) + "\n"
        with contextlib.suppress(OSError):  # nobody reads it any more
            answers.write(answer)
            answers.flush()


def _tell(answers: IO[str], value: Any) -> None:
    """Say something before the answer."""
    with contextlib.suppress(OSError):
        answers.write(f"{_TOLD}{json.dumps(value)}}}\n")
        answers.flush()


def _listen(orders: queue.SimpleQueue[str], folder: Path) -> None:
    """Pass on orders; the program is gone when no more can come."""
    for line in sys.stdin:
        orders.put(line)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _reserved() -> int:
    """Bytes that this interpreter has reserved already; 0 where nobody tells."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return 0
    return int(pages.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _limit(
    memory: int | None = None, seconds: int | None = None, *, reserved: int = 0
) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the program's clock remains.
        return
    if memory is not None:
        memory += reserved
    if seconds is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds += int(used.ru_utime + used.ru_stime) + 1
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        if value is not None and (hard == resource.RLIM_INFINITY or value < hard):
            with contextlib.suppress(OSError, ValueError):  # macOS may refuse memory's
                resource.setrlimit(kind, (value, hard))


if __name__ == "__main__":
    try:
        _serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    except BaseException:
        traceback.print_exc()
    os._exit(1)  # without waiting for the thread that listens
