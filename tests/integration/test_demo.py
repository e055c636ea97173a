"""The demo, small: the same stages on a hundred images."""

import dataclasses

import keras
import pytest

from penjing import demo
from penjing.data import datasets
from penjing.demo_config import DemoConfig
from penjing.pipeline import file_stages, load_recipe
from penjing.report.documents import read_json


@pytest.fixture
def few_images(monkeypatch):
    whole = datasets.load_dataset()
    few = dataclasses.replace(
        whole,
        x_train=whole.x_train[:512],
        y_train=whole.y_train[:512],
        x_test=whole.x_test[:200],
        y_test=whole.y_test[:200],
    )
    monkeypatch.setattr(demo, "load_dataset", lambda *_: few)


def test_the_demo_leaves_models_and_reports(tmp_path, few_images):
    config = DemoConfig(out=tmp_path, baseline_epochs=2, epochs=2, seed=1)
    report = demo.run_demo(config)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".state",
        "baseline.h5",
        "baseline.keras",
        "baseline.tflite",
        "model.float32.tflite",
        "model.keras",
        "model.tflite",
        "report.html",
        "report.json",
    }
    assert read_json(tmp_path / "report.json") == report
    assert report.environment.backend == keras.backend.backend()
    assert report.parameters == 20_410
    prune = load_recipe("default").methods[0]
    assert report.sparsity == pytest.approx(1 - prune.keep_at_least / 20_388, abs=1e-3)
    assert report.ratio > 8
    assert report.scores[0].metrics["accuracy"] > 0.3
    assert len(report.history) == 2


@pytest.mark.once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "fashion-mnis"}, "fashion-mnist"),
        ({"model": "artical"}, "article"),
        ({"recipe": "defualt"}, "default"),
    ],
)
def test_wrong_names_are_refused_with_the_nearest(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"Did you mean .{message}"):
        demo.run_demo(DemoConfig(out=tmp_path / "out", **changes))


@pytest.mark.once
def test_the_same_seed_gives_the_same_baseline_and_the_demo_goes_on(
    tmp_path, few_images, monkeypatch
):
    def export(model, path, **_):
        path.write_bytes(model.name.encode())

    monkeypatch.setattr(file_stages, "export_litert", export)
    monkeypatch.setattr(file_stages, "evaluate", lambda *_, **__: {"accuracy": 0.5})
    config = DemoConfig(
        out=tmp_path, model="lenet-300-100", baseline_epochs=1, epochs=1
    )
    events = []
    for _ in range(2):
        events.clear()
        demo.run_demo(config, progress=events.append)
    assert not any(event.total for event in events)
