"""Trials on a Ray cluster: a local one of two cores, without a dashboard."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

import pytest
from tests.budget.test_workers import (
    opened,
    orders_of,
    outcomes_of,
)

from penjing.budget.trial import TrialOrder
from penjing.budget.workplaces import ray_task, ray_workers
from penjing.errors import CompressionError, MissingDependencyError

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
]


def test_the_extra_is_named_where_ray_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"penjing\[ray\]"):
        opened(tmp_path, 1, ray="auto")


def test_processes_and_a_cluster_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="give one of them, got workers=2 and ray='a'"):
        opened(tmp_path, 2, ray="a")


def test_files_that_come_back_stay_in_the_trials_folder(tmp_path):
    folder = tmp_path / "trial"
    ray_task.write_files(folder, {"a/b.txt": b"1", "c": b"2"}, last="a/b.txt")
    assert ray_task.read_files(folder) == {"a/b.txt": b"1", "c": b"2"}
    with pytest.raises(ValueError, match="does not lie in the trial's folder"):
        ray_task.write_files(folder, {"../outside": b""})
    assert not (tmp_path / "outside").exists()


def test_signals_go_where_they_went_before():
    before = signal.getsignal(signal.SIGTERM)
    with ray_workers._own_signals():
        signal.signal(signal.SIGTERM, lambda *_: None)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    places = os.pathsep.join([*sys.path, str(ROOT)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", places)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with warnings.catch_warnings(), ray_workers._own_signals():
            warnings.simplefilter("ignore")
            ray.init(
                address="local",
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=100 * 2**20,
            )
        yield ray
        ray.shutdown()


# Each process that runs trials loads TensorFlow.
@pytest.mark.slow
def test_no_trial_is_lost_where_a_worker_is_killed(cluster, tmp_path):
    told = []
    killed = {"steps": ["die once"], "folder": str(tmp_path)}
    orders = [
        TrialOrder(name="killed", recipe=killed),
        *orders_of(2),
        TrialOrder(name="warns", recipe={"steps": ["warn"]}),
    ]
    with opened(tmp_path / "out", 1, ray="auto", progress=told.append) as workers:
        assert workers.free == 2
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            found = outcomes_of(workers, orders)
        workers.submit(orders_of(1, steps=["refuse"])[0])
        with pytest.raises(CompressionError, match="^Cannot write: No space left"):
            workers.next_outcome()
    assert {order.name for order in orders} == {*found}
    assert {outcome.status for outcome in found.values()} == {"finished"}
    assert [event.stage for event in told] == [
        "Trial killed: its worker was lost; it is run again."
    ]
    assert "look" in [str(w.message) for w in shown]
    folders = [tmp_path / "out" / order.name for order in orders]
    contents = {(folder / "model.tflite").read_bytes() for folder in folders}
    with opened(tmp_path / "here", 1) as workers:
        outcomes_of(workers, orders_of(1))
    assert contents == {(tmp_path / "here" / "0000" / "model.tflite").read_bytes()}
    assert cluster.is_initialized(), "it was there before"


@pytest.mark.slow
def test_a_trial_that_ends_every_worker_fails(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_workers, "TRIES", 1)
    with opened(tmp_path, 1, ray="auto") as workers:
        found = outcomes_of(workers, orders_of(1, steps=["die"]))["0000"]
    assert found.status == "failed"
    assert "worker was lost 1 times" in found.reason
    assert (tmp_path / "0000" / "outcome.json").exists()
