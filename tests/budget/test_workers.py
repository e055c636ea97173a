"""Workers of a search: what they hand on, and what happens where one ends."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings

import keras
import numpy as np
import pytest
from tests.budget.trial_stand_in import RUN

from penjing.budget.trial import TrialOrder
from penjing.budget.workers import open_workers
from penjing.budget.workplaces.trial_process import surroundings
from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, CompressionWarning

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
]


def small_model():
    kernel = keras.initializers.RandomNormal(seed=1)
    dense = keras.layers.Dense(3, kernel_initializer=kernel)
    model = keras.Sequential([keras.Input((4,)), dense])
    model.compile("sgd", "mse")
    return model


def small_data():
    random = np.random.default_rng(0)
    x = {"a": random.normal(size=(6, 4)).astype("float32"), "b": np.arange(6)}
    return UserData(
        train=(x, np.asfortranarray(random.normal(size=(6, 3)))),
        validation=({**x, "a": x["a"].astype("float16")}, np.arange(6) > 2),
        test=(x, np.zeros(6)),
        source="somewhere",
        notes=("split",),
        class_names=("x", "y"),
    )


def orders_of(count, **recipe):
    return [TrialOrder(name=f"{n:04}", recipe=recipe) for n in range(count)]


def outcomes_of(workers, orders):
    """All outcomes, by name."""
    waiting, found = list(orders), {}
    while len(found) < len(orders):
        while waiting and workers.free:
            workers.submit(waiting.pop(0))
        outcome = workers.next_outcome()
        found[outcome.name] = outcome
    return found


def opened(folder, workers=2, model=None, data=None, **options):
    model, data = model or small_model(), data or small_data()
    options = {"progress": lambda event: None, "run": RUN, **options}
    return open_workers(model, data, folder, workers=workers, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    (folder / "inputs").mkdir()
    (folder / "inputs" / "0.npy").write_text("of a killed program")
    return folder


@pytest.fixture(scope="module")
def shared(folder):
    """Two processes, for all tests that leave them well; gives what they told too."""
    told = []
    with opened(folder, progress=told.append) as workers:
        yield workers, told


def test_processes_give_what_this_process_gives(shared, folder, tmp_path):
    workers, told = shared
    given = {}
    for found, place in ((workers, folder), (opened(tmp_path, 1), tmp_path)):
        names = outcomes_of(found, orders_of(3))
        assert {outcome.status for outcome in names.values()} == {"finished"}
        given[found] = [(place / n / "model.tflite").read_bytes() for n in names]
    assert len({*given[workers], *given[found]}) == 1
    stages = {f"Trial {n:04}: Training" for n in range(3)}
    assert {event.stage for event in told} == stages
    assert b'null, "somewhere"' in given[workers][0], "no test part"


def test_orders_beyond_those_that_are_free_wait_for_their_turn(shared):
    workers, _ = shared
    with pytest.raises(ValueError, match="No trial was submitted"):
        workers.next_outcome()
    left = []
    for order in orders_of(3):
        workers.submit(order)
        left.append(workers.free)
    assert left == [1, 0, 0]
    assert {workers.next_outcome().name for _ in range(3)} == {"0000", "0001", "0002"}
    assert workers.free == 2


def test_processes_work_at_the_same_time(shared, tmp_path):
    workers, _ = shared
    names = ("one", "other")
    for own, other in (names, names[::-1]):
        meet = {"steps": ["wait"], "folder": str(tmp_path), "own": own, "other": other}
        workers.submit(TrialOrder(name=own, recipe=meet))
    assert {workers.next_outcome().status for _ in names} == {"finished"}


def test_a_warning_of_a_process_is_shown_here_once(shared):
    workers, _ = shared
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        outcomes_of(workers, orders_of(3, steps=["warn"]))
    assert [str(w.message) for w in shown] == ["look"]
    assert shown[0].category is CompressionWarning


def tries(folder, name):
    return len(set((folder / name / "tries").read_text().split()))


def test_a_trial_whose_process_ends_is_run_again_once_and_others_go_on(
    shared, folder, tmp_path
):
    workers, told = shared
    once = {"steps": ["crash once"], "folder": str(tmp_path)}
    orders = [
        TrialOrder(name="once", recipe=once),
        TrialOrder(name="always", recipe={"steps": ["crash"]}),
        *orders_of(2),
    ]
    found = outcomes_of(workers, orders)
    statuses = {name: outcome.status for name, outcome in found.items()}
    assert statuses.pop("always") == "failed"
    assert {*statuses.values()} == {"finished"}
    assert (tries(folder, "once"), tries(folder, "always")) == (2, 2)
    assert "was ended by SIGABRT, 2 times" in found["always"].reason
    written = json.loads((folder / "always" / "outcome.json").read_text())
    assert written == found["always"].to_dict()
    again = "its process was ended by SIGABRT; it is run again in another one."
    assert {e.stage for e in told if e.notice} == {
        f"Trial once: {again}",
        f"Trial always: {again}",
    }


def test_what_keeps_every_trial_from_running_is_raised(shared, tmp_path):
    for workers in (shared[0], opened(tmp_path, 1)):
        workers.submit(orders_of(1, steps=["refuse"])[0])
        with pytest.raises(CompressionError, match="^Cannot write: No space left"):
            workers.next_outcome()
        assert outcomes_of(workers, orders_of(1))["0000"].status == "finished"


def test_what_nobody_foresaw_in_a_process_is_raised_with_its_name(shared):
    workers, _ = shared
    workers.submit(orders_of(1, steps=["unknown"])[0])
    with pytest.raises(CompressionError, match="failed: KeyError: 'unknown'"):
        workers.next_outcome()


@pytest.mark.parametrize("count", [0, 1.5, True])
def test_a_number_of_workers_that_is_none_is_refused(tmp_path, count):
    with pytest.raises(ValueError, match="`workers` must be an integer of at least 1"):
        opened(tmp_path, count)


def test_each_process_has_its_share_of_cores_and_no_more_than_allowed(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "6")
    monkeypatch.delenv("NPROC", raising=False)
    found = surroundings(2)
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC", "KERAS_BACKEND")
    backend = keras.backend.backend()
    assert [found[name] for name in names] == ["2", "4", "4", backend]
    assert surroundings(20)["NPROC"] == "1"


def test_the_block_ends_processes_that_work(shared, folder):
    workers, _ = shared
    for order in orders_of(2, steps=["sleep"]):
        (folder / order.name / "tries").unlink(missing_ok=True)
        workers.submit(order)
    logs = [folder / name / "tries" for name in ("0000", "0001")]
    while not all(log.exists() and log.read_text() for log in logs):
        time.sleep(0.02)
    workers.close()
    for log in logs:
        with pytest.raises(ProcessLookupError):
            os.kill(int(log.read_text()), 0)
    assert not (folder / "inputs").exists()
