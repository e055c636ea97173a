"""The whole job: a model, data and a budget to files, front and report."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import penjing
from penjing.budget import compression, within_budget
from penjing.budget.first_look import (
    FirstLook,
    look_at,
    validation_for,
    with_decision_data,
)
from penjing.budget.planning import untrained_line
from penjing.budget.preparation import Preparation
from penjing.budget.proven_files import check_same
from penjing.budget.trial import known_outcome
from penjing.data.data_sources import UserData
from penjing.data.datasets import stratified_split
from penjing.errors import CompressionError, CompressionWarning, DataError
from penjing.pipeline.file_stages import PACKED_FILE
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.runs.output_folder import claim_outputs
from penjing.pipeline.runs.run_state import RunState

# Trials run on every backend in test_trial.py.
pytestmark = pytest.mark.once


def make_data(count=500, tests=300):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6)).astype("float32")
    y = (x[:, :2].sum(1) > 0).astype("int32")
    return {"train": (x[tests:], y[tests:]), "test": (x[:tests], y[:tests])}


def weighted_data():
    """Weights of samples are for the training alone."""
    data = make_data()
    x, y = data["train"]
    return {**data, "train": (x, y, np.where(y, 1.0, 2.0))}


def make_model():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, activation="relu"),
            layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Nobody knows which of its values are better: the budget names the second one.
    odd = keras.metrics.MeanMetricWrapper(
        keras.losses.sparse_categorical_crossentropy, name="weight_of_a_duck"
    )
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=[odd, "accuracy"])
    model.fit(*make_data()["train"], epochs=20, verbose=0)
    return model


@pytest.fixture(scope="module")
def model():
    return make_model()


BUDGET = penjing.Budget(max_drop=30, trials=1, metric="accuracy")


@pytest.fixture(scope="module")
def searched(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    claim_outputs(folder, [PACKED_FILE])  # of an earlier search, for another runtime
    (folder / PACKED_FILE).write_bytes(b"packed")
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(untrained_line, "_MOST_TRIALS", 1)
        report = penjing.compress(
            model, weighted_data(), budget=BUDGET, out=folder, progress=lines.append
        )
    return folder, report, lines


def test_a_budget_gives_files_a_front_and_a_control(searched):
    folder, report, _ = searched
    assert report.budget.met
    assert report.control.kind == "dense, trained as long"
    chosen = [row for row in report.front if row.chosen]
    assert len(chosen) == 1
    trial = folder / chosen[0].file
    assert (folder / "model.tflite").read_bytes() == trial.read_bytes()
    assert [row.gzip for row in report.front] == sorted(r.gzip for r in report.front)
    assert "100 of 300 test examples" in report.data.notes[0]
    x, y = make_data()["test"]
    rest, _ = stratified_split(y, 0.3333, seed=0)
    assert report.data.test == len(rest) == 200
    scores = penjing.evaluate(trial, x[rest], y[rest], metrics=["accuracy"])
    assert chosen[0].test_score == pytest.approx(scores["accuracy"])
    assert json.loads((folder / "report.json").read_text())["budget"]["met"]


def test_what_was_written_without_training_is_a_step_on_the_way(searched):
    folder, report, _ = searched
    steps = [row.step for row in report.staircase]
    assert steps[0] == "float file"
    assert steps[1].startswith("nothing trained, ")
    assert steps[2] == "nothing trained, 30 % of the weights stay, 15 levels, dynamic"
    assert report.staircase[-1].score == report.after
    assert not (folder / PACKED_FILE).exists()


def test_the_metric_that_is_named_decides_everything(searched):
    _, report, _ = searched
    assert report.metric == report.budget.metric == "accuracy"
    assert any("by the validation accuracy" in note for note in report.data.notes)
    assert 'keep_best_by = "accuracy"' in report.front[0].recipe


def test_nothing_is_done_twice(searched, model):
    folder, report, lines = searched
    mine = [folder / "front/2024/photo.txt", folder / report.front[0].folder / "notes"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    trained = {line.stage for line in lines if "epoch" in line.detail}
    assert trained == {"Trial 0004: Training", "Trial 0005: Training"}
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("outcome.json")}
    again = penjing.compress(
        model, weighted_data(), budget=BUDGET, out=folder, progress=False
    )
    assert again.front == report.front
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_the_recipe_of_a_file_gives_it_again(searched, model, tmp_path):
    folder, report, _ = searched
    row = next(row for row in report.front if row.chosen)
    penjing.compress(
        model,
        weighted_data(),
        folder / row.folder / "recipe.toml",
        out=tmp_path / "again",
        progress=False,
    )
    again = (tmp_path / "again" / "model.tflite").read_bytes()
    assert again == (folder / row.file).read_bytes()


def test_the_noise_of_little_data_is_told(model):
    data = make_data(60, tests=40)
    parts = UserData(**data, validation=data["train"], source="mine")
    look = look_at(model, parts, TrainingRecipe(batch_size=8), 0)
    assert set(look.errors) == set(look.metrics) == {"weight_of_a_duck", "accuracy"}
    scores = penjing.evaluate(model, *data["test"])
    assert look.test_metrics["accuracy"] == pytest.approx(scores["accuracy"])


@pytest.mark.filterwarnings("ignore::penjing.errors.CompressionWarning")  # of noise
def test_a_bound_that_nothing_meets_is_told(model, tmp_path):
    report = penjing.compress(
        model,
        make_data(),
        budget=penjing.Budget(max_drop=0, max_bytes=100, time="1s", metric="accuracy"),
        out=tmp_path / "out",
        progress=False,
    )
    assert not report.budget.met
    assert any("where 100 bytes is allowed" in gap for gap in report.budget.gaps)


def test_more_time_keeps_the_epochs_of_what_is_known(tmp_path):
    look = FirstLook(
        metrics={},
        directions={},
        errors={},
        pace=0.01,
        steps_per_epoch=100,
        samples=0,
        test_samples=0,
    )
    told = []

    def epochs(time):
        prepared = Preparation(
            inputs=None,
            data=None,
            held_out=TrainingRecipe(),
            budget=penjing.Budget(time=time),
            seed=0,
            state=RunState(tmp_path, "digest", restart=False),
            progress=told.append,
        )
        prepared.__dict__["look"] = look
        return prepared._kept_epochs()

    assert epochs("60s") == epochs("60s") == 5
    assert not told
    assert epochs("1h") == 5
    assert "now 50 would fit. --restart" in told[0].stage


def test_what_is_decided_by_comes_from_data_that_the_model_has_not_seen():
    many = UserData(**make_data(), source="mine")
    split, held_out = with_decision_data(many, None, seed=3)
    assert held_out.validation_from == "test"
    assert [len(part[1]) for part in (split.train, split.validation, split.test)] == [
        200,
        100,
        200,
    ]
    few = UserData(**make_data(tests=299), source="mine")
    split, held_out = with_decision_data(few, None, seed=3)
    assert held_out.validation_from == "train"
    assert [len(part[1]) for part in (split.validation, split.test)] == [40, 299]
    assert split.notes[-1].startswith("the test part has 299 samples, too few to split")
    assert "give x_validation and y_validation" in split.notes[-1]
    _, said = with_decision_data(many, "train", seed=3)
    assert said == held_out
    assert with_decision_data(few, "test", seed=3)[1].validation_from == "test"
    given = dataclasses.replace(many, validation=many.test)
    assert with_decision_data(given, None, seed=3)[0] is given
    large = UserData(
        train=many.train, test=(np.zeros(50_000), np.zeros(50_000)), source=""
    )
    assert validation_for(large).validation_split == 0.1


class Batches(keras.utils.PyDataset):
    """A loader of the user's."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0]) // 20

    def __getitem__(self, index):
        return tuple(array[20 * index : 20 * index + 20] for array in self.arrays)


@pytest.mark.parametrize("kind", ["one-hot", "loader", "weighted loader", "no metrics"])
def test_data_of_other_forms_is_looked_at(kind):
    data, metrics = make_data(tests=300), ["accuracy"]
    (x, y), (x_test, y_test) = data["train"], data["test"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if kind == "one-hot":
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        y, y_test = (keras.utils.to_categorical(labels, 2) for labels in (y, y_test))
    train = {
        "loader": Batches(x, y),
        "weighted loader": Batches(x, y, np.where(y, 1.0, 2.0)),
    }.get(kind, (x, y))
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    if kind == "no metrics":
        metrics = None
    model.compile("adam", loss, metrics=metrics)
    whole = UserData(train=train, test=(x_test, y_test), source="mine")
    whole.validate_against(model)
    parts, _ = with_decision_data(whole, None, 0)
    assert parts.validation[1].shape[0] == 100
    if kind == "one-hot":
        counts, expected = parts.validation[1].sum(0), y_test.sum(0) / 3
        assert np.abs(counts - expected).max() <= 1
    look = look_at(model, parts, TrainingRecipe(batch_size=20), 0)
    assert look.steps_per_epoch == 10
    assert list(look.metrics) == (["accuracy"] if metrics else [loss.name])
    assert look.directions == {
        name: "higher" if metrics else "lower" for name in look.metrics
    }


def test_an_uncompiled_model_is_refused_at_the_start(tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    with pytest.raises(CompressionError, match="is not compiled.*Compile the model"):
        penjing.compress(model, make_data(), out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_loader_without_validation_data_is_refused_in_words_of_a_search():
    test = make_data(60, tests=40)["test"]
    data = UserData(train=iter([test]), test=test, source="mine")
    with pytest.raises(DataError, match="Give examples that it does not have as `val"):
        validation_for(data)
    data = dataclasses.replace(data, test=make_data()["test"])
    assert validation_for(data).validation_from == "test"


def test_a_failed_trial_says_why(searched):
    folder, _, _ = searched
    for path in (folder / ".state/search").glob("0*"):
        outcome = known_outcome(path)
        assert outcome.status != "failed" or outcome.reason


def test_trials_of_another_search_go_even_where_a_kill_comes_in_between(
    model, tmp_path, monkeypatch
):
    foreign = tmp_path / ".state/search/0000"
    foreign.mkdir(parents=True)
    (foreign / "outcome.json").write_text("{}")

    def compress():
        penjing.compress(
            model, make_data(), budget=BUDGET, out=tmp_path, progress=False
        )

    monkeypatch.setattr(within_budget.BudgetRun, "report", lambda run: None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(within_budget, "_remove_trials", interrupt)
        compress()
    compress()
    assert not foreign.exists()
    foreign.mkdir()  # of this search
    compress()
    assert foreign.exists()


def interrupt(folder):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"recipe": "default", "budget": BUDGET}, "`budget` is for a search"),
        ({"recipe": "default", "workers": 2}, "`workers` is for a search"),
        ({"overrides": {"training.epochs": 1}}, "`overrides` change settings of a"),
        ({"budget": 0.5}, "must be a penjing.Budget"),
        ({"training": False, "budget": BUDGET}, "`trials` counts trainings"),
        ({"workers": 0}, "`workers` must be an integer of at least 1"),
    ],
)
def test_arguments_that_contradict_each_other(arguments, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        penjing.compress("m.keras", "d.npz", out=tmp_path, **arguments)


@pytest.mark.parametrize("bound", [{"max_latency": "2ms"}, {"minimize": "latency"}])
def test_latencies_of_other_machines_are_refused_and_of_busy_ones_warned_of(
    bound, tmp_path, monkeypatch
):
    budget = penjing.Budget(**bound)
    with pytest.raises(ValueError, match="nodes of a cluster are other machines"):
        penjing.compress("m.keras", "d.npz", budget=budget, out=tmp_path, ray="auto")
    monkeypatch.setattr(compression, "compress_within", lambda *_, **__: None)
    with pytest.warns(CompressionWarning, match="beside the trainings of 2 workers"):
        penjing.compress("m.keras", "d.npz", budget=budget, out=tmp_path, workers=2)


def test_a_metric_that_is_not_measured_is_refused(model, tmp_path):
    budget = penjing.Budget(metric="acuracy")
    with pytest.raises(CompressionError, match="Did you mean 'accuracy'"):
        penjing.compress(
            model, make_data(), budget=budget, out=tmp_path / "o", progress=False
        )


def test_a_file_that_is_not_the_proven_one_is_refused(tmp_path):
    written, proven = tmp_path / "model.tflite", tmp_path / "proven.tflite"
    written.write_bytes(b"a")
    proven.write_bytes(b"b")
    with pytest.raises(CompressionError, match="is not the file that was chosen"):
        check_same(written, proven)
    proven.write_bytes(b"a")
    check_same(written, proven)
