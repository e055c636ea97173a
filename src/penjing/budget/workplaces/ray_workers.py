"""Trials on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penjing.budget.trial import OUTCOME, TrialOrder, TrialOutcome
from penjing.budget.workplaces import ray_task
from penjing.budget.workplaces.shared_inputs import SharedInputs
from penjing.budget.workplaces.trial_process import surroundings_with
from penjing.budget.workplaces.workplace import (
    Workers,
    raised_elsewhere,
    warn_once,
    write_failure,
)
from penjing.errors import CompressionError, require_extra
from penjing.progress import Listener, Progress

TRIES = 3  # of a trial whose worker is lost


class RayWorkers(Workers):
    """As many trials at a time as the cluster has cores, each on one core.

    Model and data are put into the cluster's memory once. What a trial's folder has
    goes there and back as bytes. A trial whose worker or node is lost is submitted
    again; one that was lost three times is a failed one.
    """

    def __init__(
        self,
        inputs: SharedInputs,
        folder: Path,
        run: str,
        *,
        address: str,
        progress: Listener,
    ) -> None:
        self._ray, self._ours = _connected(address)
        super().__init__(self._cores())
        self._folder, self._run, self._progress = folder, run, progress
        self._warned: set[str] = set()
        self._key = secrets.token_hex(8)
        self._environment = surroundings_with(1)
        index = {**inputs.index, "versions": ray_task.versions()}
        fields = {"index": index, "model": inputs.model, "arrays": list(inputs.arrays)}
        self._inputs = self._ray.put(fields)
        self._task = self._ray.remote(ray_task.run_order).options(
            num_cpus=1, max_retries=0
        )
        self._pending: dict[Any, tuple[TrialOrder, int]] = {}

    @property
    def free(self) -> int:
        """How many more orders may be submitted now; nodes may come and go."""
        self._size = self._cores()
        return super().free

    def _cores(self) -> int:
        """How many there are; one where none is left: more may come."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 0)))

    def _take(self, order: TrialOrder, tries: int = 1) -> None:
        folder = self._folder / order.name
        folder.mkdir(parents=True, exist_ok=True)
        done = self._task.remote(
            self._key,
            self._inputs,
            self._run,
            order.to_dict(),
            ray_task.read_files(folder),
            self._environment,
        )
        self._pending[done] = (order, tries)

    def _wait(self) -> TrialOutcome:
        while True:
            (done, *_), _ = self._ray.wait(list(self._pending), num_returns=1)
            order, tries = self._pending.pop(done)
            try:
                answer = self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                raise CompressionError(
                    "The nodes of the Ray cluster cannot run trials: "
                    f"{error.cause or error}. Install penjing there, as it is here."
                ) from error
            except self._ray.exceptions.RayError as error:
                if tries == TRIES:
                    return self._given_up(order, error)
                self._tell(order, "its worker was lost; it is run again.")
                self._take(order, tries + 1)
                continue
            return self._brought(order, answer)

    def _given_up(self, order: TrialOrder, error: Exception) -> TrialOutcome:
        reason = f"Its worker was lost {TRIES} times: {type(error).__name__}: {error}"
        return write_failure(self._folder / order.name, order.name, reason)

    def _brought(self, order: TrialOrder, answer: dict[str, Any]) -> TrialOutcome:
        """Write down what a trial gave, the outcome last."""
        if "error" in answer:
            raise raised_elsewhere(answer["kind"], answer["error"])
        for text in answer["warnings"]:
            warn_once(text, self._warned)
        ray_task.write_files(self._folder / order.name, answer["files"], last=OUTCOME)
        return TrialOutcome.from_dict(answer["outcome"])

    def _tell(self, order: TrialOrder, text: str) -> None:
        self._progress(Progress(stage=f"Trial {order.name}: {text}", notice=True))

    def close(self) -> None:
        """End what runs, and the connection if there was none before."""
        for done in self._pending:
            self._ray.cancel(done, force=True)
        self._pending.clear()
        del self._inputs
        if self._ours:
            self._ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep who hears SIGTERM: Ray takes it for itself, and never gives it back."""
    if threading.current_thread() is not threading.main_thread():
        yield  # there Ray takes none
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:  # else it is not Python's
            signal.signal(signal.SIGTERM, before)


def _connected(address: str) -> tuple[Any, bool]:
    """Ray, connected to a cluster, and whether it was not before."""
    # Read where Ray is loaded: nothing is reported to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require_extra("ray", "ray")
    if ray.is_initialized():
        return ray, False
    try:
        with _own_signals():
            ray.init(
                address=address,
                log_to_driver=False,
                configure_logging=False,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise CompressionError(
            f"Cannot use the Ray cluster {address!r}: {error}. Start one with "
            '`ray start --head`, or give the address of its head node ("auto" is the '
            "one of this machine)."
        ) from error
    return ray, True
