"""The stages of `compress`, seen in the files that they leave."""

import json

import keras
import numpy as np
import pytest

from penjing.data.data_sources import UserData
from penjing.pipeline import (
    ClusteringConfig,
    ExportRecipe,
    FractionalSchedule,
    PruningConfig,
    Recipe,
    TrainingRecipe,
    compress,
)
from penjing.report.documents import read_json

pytestmark = pytest.mark.once

RECIPE = Recipe(
    name="tiny",
    training=TrainingRecipe(epochs=1, batch_size=16),
    methods=(
        PruningConfig(schedule=FractionalSchedule(final_sparsity=0.5)),
        ClusteringConfig(num_clusters=4, exclude=("logits",)),
    ),
    export=ExportRecipe(quantizations=("dynamic",)),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, untraced_throughout):
    folder = tmp_path_factory.mktemp("out")
    keras.utils.set_random_seed(0)  # what ran before this module must not matter
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="logits"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
    arrays = x, np.argmax(x[:, :3], -1)
    data = UserData(train=arrays, test=arrays, source="file b.npz")
    return folder, compress(
        model,
        data,
        RECIPE,
        out=folder,
        overrides={"training.epochs": 2},
        progress=False,
    )


def test_the_report_has_the_recipe_as_it_was_changed(finished):
    folder, report = finished
    written = json.loads((folder / "report.json").read_text())["recipe"]
    assert written["training"]["epochs"] == len(report.history) == 2
    assert written["description"] == "Changed: training.epochs = 2."


def test_the_report_says_how_many_values_a_clustered_weight_has(finished):
    folder, report = finished
    table = json.loads((folder / "report.json").read_text())
    rows = {row["path"]: row for row in table["weights"]}
    hidden, logits = rows["net/hidden/kernel"], rows["net/logits/kernel"]
    assert hidden["distinct"] == 4 + 1  # and zero
    assert hidden["methods"] == ["pruned", "clustered"]
    assert logits["distinct"] > 5 and logits["methods"] == ["pruned"]
    assert (hidden["size"], hidden["zeros"]) == (256, 128)
    assert read_json(folder / "report.json") == report


def test_the_report_has_the_files_on_the_way_and_what_can_be_seen(finished):
    folder, report = finished
    first, second, last = report.staircase
    assert (first.file, last.file) == ("baseline.tflite", "model.tflite")
    assert (first.step, second.step) == ("float file", "compressed, float32")
    assert last.bytes == report.file("model.tflite").gzip < first.bytes
    assert last.score == report.after
    evidence = report.evidence
    assert evidence.left_out == {}
    assert [row.name for row in evidence.layers] == ["net/hidden", "net/logits"]
    assert evidence.layers[0].levels == 4 + 1
    assert evidence.samples == 96
    command = "penjing.compress(model, data, recipe, overrides={'training.epochs': 2}, "
    assert report.commands == (command + "seed=0, out='out')",)
    page = (folder / "report.html").read_text("utf-8")
    for part in ("What each step bought", "Layer by layer", "Weights before and after"):
        assert part in page
