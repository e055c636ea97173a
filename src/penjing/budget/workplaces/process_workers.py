"""Trials in processes beside this one, on the same machine."""

from __future__ import annotations

import contextlib
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from penjing.budget.trial import TrialOrder, TrialOutcome
from penjing.budget.workplaces import trial_process
from penjing.budget.workplaces.shared_inputs import SharedInputs
from penjing.budget.workplaces.workplace import (
    INPUTS,
    Workers,
    of_trial,
    raised_elsewhere,
    warn_once,
    write_failure,
)
from penjing.errors import CompressionError
from penjing.files import atomic_path
from penjing.progress import Listener, Progress
from penjing.runtime.worker_process import OrderError, WorkerEndError, WorkerProcess

_TRIES = 2
MOST_GROWTH = 2**30


class ProcessWorkers(Workers):
    """So many processes, each with a thread here that gives it orders.

    The threads put what happens into one queue, which is read where outcomes are asked
    for: listeners and warnings reach the thread that searches.
    """

    def __init__(
        self,
        inputs: SharedInputs,
        folder: Path,
        run: str,
        *,
        processes: int,
        progress: Listener,
    ) -> None:
        super().__init__(processes)
        self._progress = progress
        self._warned: set[str] = set()
        self._orders: queue.SimpleQueue[TrialOrder | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(_inputs_in(folder / INPUTS, inputs))
            environment = trial_process.surroundings(processes)
            self._children = [
                _Child(place, run, environment, folder, self._events.put)
                for _ in range(processes)
            ]
            self._threads = [
                threading.Thread(target=self._work, args=[child], daemon=True)
                for child in self._children
            ]
            stack.callback(self._end)
            for thread in self._threads:
                thread.start()
            self._stack = stack.pop_all()

    def _take(self, order: TrialOrder) -> None:
        self._orders.put(order)

    def _wait(self) -> TrialOutcome:
        while True:
            event = self._events.get()
            if isinstance(event, TrialOutcome):
                return event
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, Progress):
                self._progress(event)
            else:
                warn_once(event, self._warned)

    def _work(self, child: _Child) -> None:
        with child:
            child.start()
            while (order := self._orders.get()) is not None:
                try:
                    self._events.put(child.outcome_of(order))
                except BaseException as error:
                    self._events.put(error)

    def _end(self) -> None:
        for child in self._children:
            child.kill()
            self._orders.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def close(self) -> None:
        """End the processes, and remove what they were given."""
        self._stack.close()


@contextlib.contextmanager
def _inputs_in(folder: Path, inputs: SharedInputs) -> Iterator[Path]:
    """Files for the processes, which go with the block."""
    folder.mkdir(parents=True)
    try:
        # Within: what cannot be written is said as of any other file.
        with atomic_path(folder / "written"):
            trial_process.write_inputs(inputs, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _EndedError(Exception):
    """The search is over."""


class _Child:
    """A process for trials; another one takes its place where it ends."""

    def __init__(
        self,
        inputs: Path,
        run: str,
        environment: Mapping[str, str],
        folder: Path,
        put: Callable[[Any], None],
    ) -> None:
        self._inputs, self._run, self._folder = inputs, run, folder
        self._environment, self._put = environment, put
        self._process: WorkerProcess | None = None
        self._first: int | None = None  # bytes that it took after its first trial
        self._ended = False
        self._turn = threading.Lock()

    def start(self) -> None:
        """Start the process before it is needed; what fails is said when it is."""
        with contextlib.suppress(CompressionError, WorkerEndError, _EndedError):
            self._started()

    def outcome_of(self, order: TrialOrder) -> TrialOutcome:
        """Run a trial, again in another process where the first one ends."""
        for number in range(_TRIES):
            try:
                return self._asked(order)
            except WorkerEndError as error:
                if self._ended:
                    raise _EndedError from None
                self._drop()
                how, words = _how(error), error.last_words
                if number + 1 < _TRIES:
                    text = f"its process {how}; it is run again in another one."
                    event = Progress(stage=text, notice=True)
                    self._put(of_trial(order.name, event))
        reason = f"Its process {how}, {_TRIES} times. Its last words: {words or 'none'}"
        return write_failure(self._folder / order.name, order.name, reason)

    def _asked(self, order: TrialOrder) -> TrialOutcome:
        def listen(told: dict[str, Any]) -> None:
            if "event" in told:
                event = of_trial(order.name, trial_process.event_of(told))
                self._put(event)
            else:
                self._put(told["warning"])

        process = self._started()
        answer = self._answer(
            process, "run", listen, order=order.to_dict(), folder=self._place(order)
        )
        self._renew(answer["bytes"])
        return TrialOutcome.from_dict(answer["outcome"])

    def _renew(self, taken: int) -> None:
        """End a process that has grown too much: backends keep some of each model."""
        if self._first is None:
            self._first = taken
        elif taken - self._first > MOST_GROWTH:
            self._drop()

    def _place(self, order: TrialOrder) -> str:
        return str(self._folder / order.name)

    def _started(self) -> WorkerProcess:
        if self._process is not None:
            return self._process
        with self._turn:
            if self._ended:
                raise _EndedError
            process = WorkerProcess(
                trial_process.__name__, environment=self._environment
            )
            self._process = process
        try:
            self._answer(process, "open", None, folder=str(self._inputs), run=self._run)
        except BaseException:
            self._drop()  # the next trial says what is wrong, if it still is
            raise
        return process

    def _answer(
        self, process: WorkerProcess, method: str, listen: Any, **arguments: Any
    ) -> dict[str, Any]:
        try:
            return process.ask(method, listen=listen, **arguments)
        except OrderError as error:
            raise raised_elsewhere(error.kind, str(error)) from error

    def kill(self) -> None:
        """End the process, whoever waits for it."""
        with self._turn:
            self._ended = True
            if self._process is not None:
                self._process.process.kill()

    def _drop(self) -> None:
        with self._turn:
            process, self._process = self._process, None
            self._first = None
        if process is not None:
            process.close()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()


def _how(error: WorkerEndError) -> str:
    """How a process ended, for people."""
    code = error.exit_code
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = " (the system does so where memory is lacking)"
    return f"was ended by {name}{memory if name == 'SIGKILL' else ''}"
