"""Files that a search ends with are timed in turns, so that "met" is true."""

import contextlib
import dataclasses
import types

import pytest
from tests.budget.test_search import GOAL, searched

from penjing import file_verification
from penjing.budget import proven_files, within_budget
from penjing.budget.budget import Budget
from penjing.budget.proven_files import ProvenFiles
from penjing.errors import MissingDependencyError
from penjing.progress import ignore_progress

pytestmark = pytest.mark.once


def proven(search):
    return ProvenFiles(
        search=search,
        model=None,
        data=types.SimpleNamespace(validation=None),
        runtime="x86",
        stage=lambda name, files, work: work(),
        progress=ignore_progress,
    )


def test_the_best_file_stays_the_best_when_timed_in_turns(tmp_path, monkeypatch):
    goal = dataclasses.replace(
        GOAL, bounds={"max_latency": 1e-4}, objective="latency", bytes_kind="gzip"
    )
    search, _ = searched(tmp_path, goal, edge=0.02, trainings=12)
    search.run()
    lucky = search.best()
    assert search.goal.is_met(search._score(lucky), lucky.costs)
    known = {t.name: t.costs["latency"] for t in search._files(search.study.trials)}
    rounds = []

    def measure(paths, **settings):
        rounds.append([path.parent.name for path in paths])
        rows = []
        for path in paths:  # the machine is half as fast now; one was fast by chance
            trial = search.study.trials[int(path.parent.name)]
            factor = 10 if trial.name == lucky.name else 2
            milliseconds = 1000 * factor * known[trial.name]
            rows.append(types.SimpleNamespace(milliseconds=milliseconds))
        return types.SimpleNamespace(files=rows)

    monkeypatch.setattr(proven_files, "measure_latency", measure)
    as_they_are = lambda path, inputs: contextlib.nullcontext(path)  # noqa: E731
    monkeypatch.setattr(proven_files, "at_sizes_of", as_they_are)
    said = proven(search).time_again()
    assert "30 rounds, in which files took turns" in said
    best = search.best()
    assert best.name != lucky.name
    assert {lucky.name, best.name} <= {name for names in rounds for name in names}
    assert len(rounds) < 4
    assert best.costs["latency"] == pytest.approx(2 * known[best.name])
    untrained = {t.name for t in search.study.trials if t.candidate.family == "files"}
    assert all(untrained <= set(names) for names in rounds)


def test_nothing_is_timed_where_no_latency_was_asked_for(tmp_path):
    search, _ = searched(tmp_path, trainings=2)
    search.run()
    assert proven(search).time_again() == ""


@pytest.mark.parametrize(
    ("runtime", "lacks"),
    [
        ("micro", "penjing.runtime.tflm.tflm_runner.has_tflm"),
        ("wasm", "penjing.web.npm_packages.find_packages"),
        ("arm", "penjing.arm.arm_packages.find_arm"),
    ],
)
def test_a_runtime_that_is_not_installed_is_told_before_anything_is_done(
    runtime, lacks, tmp_path, monkeypatch
):
    def missing():
        raise MissingDependencyError("Fetch it once with: penjing setup")

    monkeypatch.setattr(lacks, (lambda: False) if runtime == "micro" else missing)
    with pytest.raises(MissingDependencyError):
        within_budget.compress_within(
            "none.keras",
            "none.npz",
            Budget(runtime=runtime),
            out=tmp_path,
            seed=0,
            imports=(),
            restart=False,
            pixels="0-255",
            accept_baseline=False,
            overwrite=False,
            training=True,
            labels=True,
            progress=False,
        )
    file_verification.require_runtime("x86")
