"""What a logger is told of searches and of recipes."""

import pytest
from tests.budget.test_search import searched
from tests.report.example_report import make_regression

import penjing
from penjing.budget.told_results import tell_run

pytestmark = pytest.mark.once


def test_each_trial_is_told_with_its_number(tmp_path):
    told = []
    search, workers = searched(tmp_path, trainings=3)
    search.log = lambda *call: told.append(call)
    search.run()
    trials = {trial.name: trial.outcome for trial in search.study.trials}
    assert [step for name, _, step in told if name == "trial/seconds"] == [
        int(name) for name in workers.ran
    ]
    for name in ("gzip", "raw"):
        for told_name, value, step in told:
            if told_name == f"trial/{name}":
                assert value == trials[f"{step:04d}"].costs[name]
    assert {"trial/accuracy", "trial/sparsity"} <= {name for name, _, _ in told}


def test_a_recipe_tells_its_epochs_and_what_it_came_to():
    told = []
    report = make_regression()
    assert tell_run(report, lambda *call: told.append(call)) is report
    losses = [("loss", 1.0, 1), ("loss", 0.25, 2), ("loss", 0.5, 3)]
    result = [("ratio", report.ratio, 3), ("before", 43.2, 3), ("after", 48.65, 3)]
    assert told == losses + result
    assert tell_run(report, None) is report


def test_what_is_no_function_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(ValueError, match="`log` must be a function of a name"):
        penjing.compress("net.keras", "data.npz", out=tmp_path / "out", log="wandb")
    assert not (tmp_path / "out").exists()
