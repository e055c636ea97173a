"""A trial: one file, scored on validation data, and kept."""

import dataclasses
import errno
import functools
import json

import keras
import numpy as np
import pytest

from penjing.budget import trial_costs
from penjing.budget.trial import TrialOrder, TrialOutcome, run_trial
from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, ExportError, RecipeError
from penjing.measurement.accuracy import evaluate
from penjing.measurement.size import measure_size
from penjing.pipeline import (
    ExportRecipe,
    FractionalSchedule,
    PruningConfig,
    Recipe,
    TrainingRecipe,
    compress,
    file_stages,
)
from penjing.pipeline.inputs.run_data import with_validation

pytestmark = pytest.mark.once

RECIPE = Recipe(
    name="tiny",
    training=TrainingRecipe(
        epochs=2, batch_size=48, validation_split=0.25, keep_best=True
    ),
    methods=(PruningConfig(FractionalSchedule(final_sparsity=0.5)),),
    export=ExportRecipe(quantizations=("dynamic", "int8")),
)


def make_model():
    keras.utils.clear_session(free_memory=False)  # the same names in each
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8,)),
        keras.layers.Dense(16, activation="relu", name="hidden"),
        keras.layers.Dense(3, name="logits"),
    ]
    model = keras.Sequential(layers, name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def make_part(count, seed):
    x = np.random.default_rng(seed).normal(size=(count, 8)).astype("float32")
    return x, np.argmax(x[:, :3], -1)


def make_data():
    # Nothing of the test part is ever looked at.
    test = (np.full((4, 8), np.nan, "float32"), np.zeros(4, "int64"))
    whole = UserData(train=make_part(128, 0), test=test, source="memory")
    return with_validation(whole, RECIPE.training, seed=0)


def order(**settings):
    recipe = settings.pop("recipe", RECIPE)
    return TrialOrder(name="0001", recipe=recipe.to_dict(), **settings)


def silent(event):
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trials") / "0001"
    asked = order(costs=("gzip", "macs"))
    return folder, run_trial(asked, make_model(), make_data(), folder, progress=silent)


def test_a_trial_leaves_one_file_with_its_score_and_costs(finished):
    folder, outcome = finished
    assert (outcome.status, outcome.reason) == ("finished", "")
    visible = {path.name for path in folder.iterdir() if path.name != ".state"}
    assert visible == {"model.tflite", "model.keras", "recipe.toml", "outcome.json"}
    size = measure_size(folder / "model.tflite")
    macs = 8 * 16 + 16 * 3
    assert outcome.costs == {"raw": size.raw, "gzip": size.gzip, "macs": macs}
    x, y = make_data().validation
    assert outcome.metrics == evaluate(folder / outcome.file, x, y)
    assert outcome.steps == 2 * 2
    assert outcome.sparsity == 0.5
    written = json.loads((folder / "outcome.json").read_text())
    assert TrialOutcome.from_dict(written) == outcome


def test_compress_by_the_recipe_of_a_trial_gives_the_same_file(finished, tmp_path):
    folder, outcome = finished
    report = compress(
        make_model(),
        (make_part(128, 0), make_part(64, 1)),
        folder / "recipe.toml",
        out=tmp_path,
        accept_baseline=True,
        overrides={"export.quantizations": ["dynamic"]},
        progress=False,
    )
    for name in ("model.tflite", "model.keras"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    held_out, kept = report.data.notes
    assert held_out.startswith("33 of 128 training examples, chosen by the seed 0, are")
    assert kept.startswith("the weights are those of epoch ")


def test_an_order_survives_json():
    asked = order(costs=("gzip", "latency"), lowest=0.5, imports=("json",))
    assert TrialOrder.from_dict(json.loads(json.dumps(asked.to_dict()))) == asked


def test_a_finished_trial_is_not_done_again(finished):
    folder, outcome = finished
    before = (folder / "model.tflite").stat().st_mtime_ns
    stages = []
    again = run_trial(
        order(), make_model(), make_data(), folder, progress=stages.append
    )
    assert again == outcome and stages == []
    more = run_trial(
        order(costs=("latency",)), make_model(), make_data(), folder, progress=silent
    )
    assert 0 < more.costs["latency"] < 1
    assert (folder / "model.tflite").stat().st_mtime_ns == before


@pytest.fixture
def quick(monkeypatch, untraced):
    """Files that hold the weights and nothing else, from steps that run untraced."""

    def export(model, path, **_):
        weights = [keras.ops.convert_to_numpy(w).tobytes() for w in model.weights]
        path.write_bytes(b"".join(weights))

    monkeypatch.setattr(file_stages, "export_litert", export)
    monkeypatch.setattr(file_stages, "evaluate", lambda *_, **__: {"accuracy": 0.5})


@pytest.mark.usefixtures("quick")
def test_another_recipe_or_other_data_in_the_same_folder_begins_anew(tmp_path):
    def run(data, **settings):
        run_trial(order(**settings), make_model(), data, tmp_path, progress=silent)
        return (tmp_path / "model.keras").read_bytes()

    data = make_data()
    first = run(data)
    assert run(data) == first
    assert run(data, seed=1) != first
    train = tuple(array[:80] for array in data.train)
    assert run(dataclasses.replace(data, train=train), seed=1) != first


@pytest.mark.usefixtures("quick")
def test_what_the_listener_raises_leaves_the_trial_unfinished(tmp_path):
    def stop(event):
        if event.stage == "Exporting model.tflite":
            raise TimeoutError

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = run_trial(order(), make_model(), make_data(), whole, progress=silent)
    with pytest.raises(TimeoutError):
        run_trial(order(), make_model(), make_data(), cut, progress=stop)
    assert not (cut / "outcome.json").exists()
    heard = []
    again = run_trial(order(), make_model(), make_data(), cut, progress=heard.append)
    assert not [event for event in heard if event.total]  # no batch was trained again
    assert again.metrics == first.metrics
    for name in ("model.tflite", "model.keras"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.usefixtures("quick")
def test_what_cannot_be_measured_is_a_failed_trial(tmp_path, monkeypatch):
    def refuse(*_):
        raise ValueError("no such thing")

    monkeypatch.setitem(trial_costs.COSTS, "macs", refuse)
    asked = order(costs=("macs",))
    outcome = run_trial(asked, make_model(), make_data(), tmp_path, progress=silent)
    assert (outcome.status, outcome.reason) == ("failed", "no such thing")
    assert outcome.file is None and outcome.costs == {}
    assert (tmp_path / "outcome.json").is_file()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", ["here", "beneath", "in words"])
def test_a_full_disk_is_no_failed_trial(tmp_path, monkeypatch, fault):
    def refuse(*_, **__):
        full = OSError(errno.ENOSPC, "No space left on device")
        if fault == "here":
            raise full
        if fault == "in words":
            raise RuntimeError("write failed: No space left on device")
        raise ExportError("cannot convert") from full

    monkeypatch.setattr(file_stages, "export_litert", refuse)
    run = functools.partial(run_trial, order(), make_model(), make_data(), tmp_path)
    with pytest.raises(
        CompressionError, match="The run cannot go on: |^cannot convert$"
    ):
        run(progress=silent)
    assert not (tmp_path / "outcome.json").exists()
    monkeypatch.setattr(file_stages, "export_litert", lambda m, path, **_: write(path))
    heard = []
    assert run(progress=heard.append).status == "finished"
    assert not [event for event in heard if event.total]  # no batch was trained again


@pytest.mark.usefixtures("quick")
def test_a_damaged_outcome_or_file_is_made_anew_and_said(tmp_path):
    run = functools.partial(run_trial, order(), make_model(), make_data(), tmp_path)
    first = run(progress=silent)
    content = (tmp_path / "model.tflite").read_bytes()

    def again():
        heard = []
        found = run(progress=heard.append)
        assert dataclasses.replace(found, seconds=first.seconds) == first
        assert (tmp_path / "model.tflite").read_bytes() == content
        assert not [event for event in heard if event.total]
        return [event.stage for event in heard if event.notice]

    assert again() == []
    for name, damage in (
        ("outcome.json", b"{"),
        ("outcome.json", b'{"name": "0001", "metrics": 5}'),
        ("model.tflite", content[:-1]),
        ("model.tflite", None),
    ):
        if damage is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(damage)
        assert len(again()) == 1, (name, damage)
    assert again() == []


def write(path):
    path.write_bytes(b"some file")


@pytest.mark.usefixtures("quick")
def test_files_do_not_depend_on_what_the_process_did_before(tmp_path):
    model, data = make_model(), make_data()
    for name in ("first", "second"):
        run_trial(order(), model, data, tmp_path / name, progress=silent)
    first, second = (tmp_path / name / "model.keras" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.usefixtures("quick")
def test_what_a_killed_trial_left_half_written_goes(tmp_path):
    left = tmp_path / ".model-0123abcd.keras"
    left.write_bytes(b"half")
    run_trial(order(), make_model(), make_data(), tmp_path, progress=silent)
    assert not left.exists()


@pytest.mark.usefixtures("quick")
def test_a_refused_file_is_a_failed_trial_with_the_reason(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ExportError("the layer 'hidden' has no kernel")

    monkeypatch.setattr(file_stages, "export_litert", refuse)
    outcome = run_trial(order(), make_model(), make_data(), tmp_path, progress=silent)
    assert (outcome.status, outcome.file) == ("failed", None)
    assert outcome.reason == "model.tflite: the layer 'hidden' has no kernel"


@pytest.mark.usefixtures("quick")
def test_without_epochs_or_methods_the_file_is_of_the_model_as_it_is(tmp_path):
    as_it_is = TrainingRecipe(epochs=0, minimum_steps=300)
    plan = Recipe(name="after training", training=as_it_is, methods=())
    outcome = run_trial(
        order(recipe=plan), make_model(), make_data(), tmp_path, progress=silent
    )
    assert (outcome.status, outcome.steps, outcome.sparsity) == ("finished", 0, 0.0)
    weights = make_model().get_weights()
    content = b"".join(array.tobytes() for array in weights)
    assert (tmp_path / "model.tflite").read_bytes() == content
    plan = Recipe(name="control", training=TrainingRecipe(epochs=1), methods=())
    outcome = run_trial(
        order(recipe=plan), make_model(), make_data(), tmp_path, progress=silent
    )
    assert (outcome.status, outcome.steps) == ("finished", 1)
    assert (tmp_path / "model.tflite").read_bytes() != content


@pytest.mark.usefixtures("quick")
def test_a_hopeless_trial_is_stopped_and_not_done_again(tmp_path):
    asked = order(lowest=1.1)
    outcome = run_trial(asked, make_model(), make_data(), tmp_path, progress=silent)
    assert (outcome.status, outcome.file, outcome.steps) == ("stopped", None, 2)
    assert "the validation accuracy is" in outcome.reason
    heard = []
    again = run_trial(asked, make_model(), make_data(), tmp_path, progress=heard.append)
    assert again == outcome and heard == []


def test_a_recipe_that_is_none_is_refused(tmp_path):
    asked = TrialOrder(name="0007", recipe={"name": "mine", "epochs": 3})
    with pytest.raises(RecipeError, match="the trial 0007: unknown key `epochs`"):
        run_trial(asked, make_model(), make_data(), tmp_path, progress=silent)
