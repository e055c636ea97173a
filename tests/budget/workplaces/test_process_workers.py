"""When processes for trials are ended and started, with stand-ins for processes."""

from __future__ import annotations

import types

import pytest

from penjing.budget.trial import TrialOrder
from penjing.budget.workplaces import process_workers
from penjing.budget.workplaces.process_workers import ProcessWorkers
from penjing.budget.workplaces.shared_inputs import SharedInputs
from penjing.errors import DataError
from penjing.runtime.worker_process import OrderError, WorkerEndError

pytestmark = pytest.mark.once


class Process:
    """What stands in for a `WorkerProcess`: it gives the next of some answers."""

    made: list[str]
    answers: list[object]

    def __init__(self, source, *, environment):
        self.made.append(source)
        self.process = types.SimpleNamespace(kill=lambda: None)

    def ask(self, method, *, listen, **arguments):
        answer = self.answers.pop(0) if method == self.asked else 0
        if isinstance(answer, Exception):
            raise answer
        outcome = {"name": arguments.get("order", {}).get("name"), "status": "finished"}
        more = {"file": None, "metrics": {}, "costs": {}}
        more |= {"steps": 0, "seconds": 0.0, "sparsity": 0.0}
        return {"outcome": {**outcome, **more}, "bytes": answer}

    def close(self):
        pass


@pytest.fixture
def opened(tmp_path, monkeypatch):
    def make(asked, *answers):
        values = {"made": [], "answers": list(answers), "asked": asked}
        monkeypatch.setattr(
            process_workers, "WorkerProcess", type("One", (Process,), values)
        )
        inputs = SharedInputs(index={}, model=b"", arrays=[])
        return values, ProcessWorkers(
            inputs, tmp_path, "", processes=1, progress=lambda event: None
        )

    return make


def next_of(workers):
    workers.submit(TrialOrder(name="0000", recipe={}))
    return workers.next_outcome()


def test_a_process_that_grows_too_much_is_ended(opened):
    most = process_workers.MOST_GROWTH
    values, workers = opened("run", 5, 5 + most, 6 + most, 7, 8)
    with workers:
        started = [(next_of(workers), len(values["made"]))[1] for _ in range(5)]
    assert started == [1, 1, 1, 2, 2]


def test_what_is_wrong_with_the_inputs_is_said_where_a_trial_needs_them(opened):
    wrong = OrderError("DataError", "no such loader")
    _, workers = opened("open", wrong, wrong, 0)
    with workers:
        with pytest.raises(DataError, match="^no such loader$"):
            next_of(workers)
        assert next_of(workers).status == "finished"


def test_a_crash_while_inputs_are_loaded_counts_as_one_of_the_trial(opened):
    crash = WorkerEndError(-9, None, "too large")
    values, workers = opened("open", crash, crash, crash)
    with workers:
        outcome = next_of(workers)
    assert len(values["made"]) == 3, "one before there was a trial"
    assert outcome.status == "failed"
    assert "SIGKILL (the system does so where memory is lacking)" in outcome.reason
