"""What every workplace is to a search, and the simplest: this process."""

from __future__ import annotations

import abc
import dataclasses
import importlib
import json
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeAlias

import keras

from penjing import errors
from penjing.budget.trial import FAILED, OUTCOME, TrialOrder, TrialOutcome
from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, CompressionWarning
from penjing.files import write_text
from penjing.progress import Listener, Progress

INPUTS = "inputs"  # what processes are given, beside the trials' folders
RunTrial: TypeAlias = Callable[..., TrialOutcome]


class Workers(abc.ABC):
    """Takes orders and gives outcomes, in whatever order they are ready.

    It is a context manager: what it started ends with the block, at once.

    Example:
        >>> with open_workers(model, data, folder) as workers:  # doctest: +SKIP
        ...     workers.submit(order)
        ...     outcome = workers.next_outcome()
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting = 0

    @property
    def free(self) -> int:
        """How many more orders may be submitted now."""
        return max(self._size - self._waiting, 0)

    def submit(self, order: TrialOrder) -> None:
        """Have a trial run; beyond those that are `free` it waits for its turn."""
        self._take(order)
        self._waiting += 1

    def next_outcome(self) -> TrialOutcome:
        """Wait for a trial to end; listeners are told meanwhile, in this thread.

        Raises:
            ValueError: If no trial was submitted.
            CompressionError: If no trial can run; the message says why.
        """
        if not self._waiting:
            raise ValueError("No trial was submitted. Call `submit` first.")
        try:
            return self._wait()
        finally:
            self._waiting -= 1

    @abc.abstractmethod
    def _take(self, order: TrialOrder) -> None:
        """Accept an order."""

    @abc.abstractmethod
    def _wait(self) -> TrialOutcome:
        """Give an outcome that nobody was given yet."""

    def close(self) -> None:  # noqa: B027
        """End what runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SerialWorkers(Workers):
    """One trial after the other, in this process, when its outcome is asked for."""

    def __init__(
        self,
        model: keras.Model,
        data: UserData,
        folder: Path,
        run: str,
        progress: Listener,
    ) -> None:
        super().__init__(1)
        self._model, self._folder = model, folder
        self._data = dataclasses.replace(data, test=None)  # as other workers have it
        self._run = function_named(run)
        self._progress = progress
        self._orders: deque[TrialOrder] = deque()

    def _take(self, order: TrialOrder) -> None:
        self._orders.append(order)

    def _wait(self) -> TrialOutcome:
        order = self._orders.popleft()
        return self._run(
            order,
            self._model,
            self._data,
            self._folder / order.name,
            progress=lambda event: self._progress(of_trial(order.name, event)),
        )


def function_named(name: str) -> RunTrial:
    """Import a function by `"module:function"`."""
    module, _, function = name.partition(":")
    found: RunTrial = getattr(importlib.import_module(module), function)
    return found


def of_trial(name: str, event: Progress) -> Progress:
    """A message of a trial, with its name."""
    return dataclasses.replace(event, stage=f"Trial {name}: {event.stage}")


def raised_elsewhere(kind: str, text: str) -> CompressionError:
    """The error that another process raised, by the name of its class."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, CompressionError):
        return known(text)
    return CompressionError(f"A process for trials failed: {kind}: {text}")


def warn_once(text: str, warned: set[str]) -> None:
    """Show what a trial warned of in another process, unless another one did."""
    if text not in warned:
        warned.add(text)
        warnings.warn(text, CompressionWarning, stacklevel=4)


def write_failure(folder: Path, name: str, reason: str) -> TrialOutcome:
    """Write down that a trial cannot run, so that it is not tried again and again."""
    outcome = TrialOutcome(
        name=name,
        status=FAILED,
        reason=reason,
        file=None,
        metrics={},
        costs={},
        steps=0,
        seconds=0.0,
        sparsity=0.0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / OUTCOME, json.dumps(outcome.to_dict(), indent=1))
    return outcome
