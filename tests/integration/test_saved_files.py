"""Files that version 0.1 saved: models, recipes and names must go on being read.

They lie under `tests/data/saved_by_0_1`, made by the `make.py` beside them with the
TensorFlow backend, and are never made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tests.data.saved_by_0_1 import cases, make
from tests.jax_cases import few_on_jax

import penjing
from penjing import pipeline, tfmot

MODELS = cases.FOLDER / "models"
RUNS = cases.FOLDER / "runs"
TABLES = cases.FOLDER / "tables"
RECIPES = cases.FOLDER / "recipes"
# Sums are added in another order by other backends and processors.
TOLERANCE = {"atol": 1e-6, "rtol": 1e-5}
pytestmark = pytest.mark.filterwarnings(
    "ignore:Training ends:penjing.CompressionWarning"
)


def read_json(path: str) -> Any:
    return json.loads((cases.FOLDER / path).read_text("utf-8"))


# Of classes that other files hold too.
ALIKE = {
    *("own_importance", "clustered_channels", "grids_by_layer"),
    *("tfmot_blocks", "tfmot_clustered_channels", "tfmot_two_of_four"),
}
COSTLY_ON_JAX = {
    *("cosine_blocks", "global_with_penalty", "moving_ranges", "rounded_images")
}
# Of the measured model and data: it depends on what Keras says of the layers.
DIGESTS = {
    "3.12.0": "40493d403e9a3fb511ebd3ea794a7229",
    "3.15.1": "8d6b2b56c0b1adb8da55b89d96102662",
}
MANIFEST = ".state/compression/manifest.json"
FACTS = read_json("models/expected.json")


@pytest.fixture(scope="module")
def expected():
    with np.load(MODELS / "expected.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def load(name: str) -> keras.Model:
    scopes = (
        tfmot.sparsity.keras.prune_scope(),
        tfmot.clustering.keras.cluster_scope(),
        tfmot.quantization.keras.quantize_scope(),
    )
    if not name.endswith(".h5"):
        return keras.saving.load_model(MODELS / name)
    with scopes[0], scopes[1], scopes[2]:  # .h5 files hold bare names of classes
        return keras.saving.load_model(MODELS / name)


def inputs(model: keras.Model) -> np.ndarray:
    return cases.inputs_for(getattr(model, "model", model))[0]


def assert_outputs(model: keras.Model, outputs: np.ndarray) -> None:
    found = keras.ops.convert_to_numpy(model(inputs(model)[:6], training=False))
    np.testing.assert_allclose(found, outputs, **TOLERANCE)


def assert_weights(model: keras.Model, arrays: dict[str, np.ndarray], key: str) -> None:
    """The same zeros exactly, the same values but for rounding."""
    found = cases.values(model)
    wanted = [value for name, value in arrays.items() if name.startswith(f"{key}/")]
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine == 0, theirs == 0)
        np.testing.assert_allclose(mine, theirs, **TOLERANCE)


def assert_contains(value: Any, saved: Any, where: str) -> None:
    """The same values under the same keys; there may be more keys."""
    value, saved = json.loads(json.dumps(value)), json.loads(json.dumps(saved))
    if isinstance(saved, dict):
        for key in saved:
            assert_contains(value[key], saved[key], f"{where}.{key}")
    elif isinstance(saved, list):
        assert len(value) == len(saved), where
        for number, (mine, theirs) in enumerate(zip(value, saved, strict=True)):
            assert_contains(mine, theirs, f"{where}[{number}]")
    else:
        assert value == saved, where


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.once] * (name in ALIKE)
            + [pytest.mark.costly_on_jax] * (name in COSTLY_ON_JAX),
        )
        for name in FACTS
    ],
)
def test_a_saved_model_computes_what_it_did(name, expected):
    model = load(f"{name}.keras")
    assert type(model).__name__ == FACTS[name]["class"]
    assert_outputs(model, expected[f"{name}/outputs"])
    assert cases.describe(model) == FACTS[name]["weights"]
    assert_weights(penjing.strip(model), expected, f"{name}/stripped")


@pytest.mark.once
@pytest.mark.parametrize("name", cases.AS_H5)
def test_an_h5_file_computes_what_it_did(name, expected):
    model = load(f"{name}.h5")
    assert_outputs(model, expected[f"{name}/outputs"])
    assert_weights(penjing.strip(model), expected, f"{name}/stripped")


def test_weights_are_loaded_into_a_new_model(expected):
    model = cases.MODELS["polynomial"]()
    model.load_weights(MODELS / "polynomial.weights.h5")
    assert_outputs(model, expected["polynomial/outputs"])


def test_a_stripped_model_needs_nothing_of_penjing(expected):
    with zipfile.ZipFile(MODELS / "two_of_four.stripped.keras") as archive:
        assert b"penjing" not in archive.read("config.json")
    assert_weights(load("two_of_four.stripped.keras"), expected, "two_of_four/stripped")


@pytest.mark.parametrize("name", few_on_jax(cases.GOING_ON, "polynomial"))
def test_training_goes_on_where_it_stopped(name, expected):
    model = load(f"{name}.keras")
    cases.go_on(model, 2)
    assert_weights(penjing.strip(model), expected, f"{name}/later")


def test_an_annotated_model_can_still_be_quantized(expected):
    model = load("tfmot_annotated.keras")
    quantized = tfmot.quantization.keras.quantize_apply(model)
    rows = {row["path"]: row["distinct"] for row in cases.describe(quantized)}
    assert rows["quant_hidden/kernel"] <= 15  # the four bits of the file's own config


def test_every_registered_class_is_in_a_file():
    texts = [path.read_text("utf-8") for path in cases.FOLDER.glob("objects/*.json")]
    for path in MODELS.glob("*.keras"):
        with zipfile.ZipFile(path) as archive:
            texts.append(archive.read("config.json").decode())
    missing = [
        n for n in read_json("names/registered.json") if f'"{n}"' not in str(texts)
    ]
    assert not missing


@pytest.mark.parametrize("name", cases.make_values())
def test_a_serialized_value_is_read_as_it_was(name):
    saved = read_json("objects/serialized.json")[name]
    assert keras.saving.deserialize_keras_object(saved) == cases.make_values()[name]


@pytest.mark.parametrize("name", read_json("objects/schedules.json"))
def test_a_schedule_is_read_from_its_text(name):
    text = read_json("objects/schedules.json")[name]
    assert penjing.schedule_from_json(text) == cases.make_values()[name]


@pytest.mark.once
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_a_recipe_is_read_as_it_was(path):
    recipe = pipeline.load_recipe(path)
    assert_contains(recipe.to_dict(), read_json("recipes/read.json")[path.stem], "")
    assert pipeline.recipe_from_dict(recipe.to_dict()) == recipe


@pytest.mark.once
def test_packaged_recipes_are_what_they_were():
    names = [p.stem.removeprefix("packaged-") for p in RECIPES.glob("packaged-*.toml")]
    assert set(names) <= set(pipeline.packaged_recipes())
    for name in names:
        saved = pipeline.load_recipe(RECIPES / f"packaged-{name}.toml")
        recipe = pipeline.load_recipe(name)
        methods = tuple(map(strictly, recipe.methods))
        assert dataclasses.replace(recipe, methods=methods) == saved


def strictly(method):
    """A method as it was before a target beyond reach could be let be."""
    if not hasattr(method, "best_effort"):
        return method
    return dataclasses.replace(method, best_effort=False)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of aliases
def test_public_names_are_still_there():
    missing = []
    for name in read_json("names/public.json"):
        module, _, attribute = name.rpartition(".")
        if not hasattr(importlib.import_module(module), attribute):
            missing.append(name)
    assert not missing


@pytest.mark.once
def test_importing_the_package_registers_its_classes():
    """Keras finds classes by the names they are registered under, so by an import."""
    program = (
        "import json, keras, penjing\n"
        "first = list(keras.saving.get_custom_objects())\n"
        "from penjing import tfmot\n"
        "print(json.dumps([first, list(keras.saving.get_custom_objects())]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KERAS_BACKEND": "jax"},  # which is imported quickly
        check=True,
        capture_output=True,
        text=True,
    )
    first, second = json.loads(ran.stdout.splitlines()[-1])
    wanted = set(read_json("names/registered.json"))
    assert {name for name in wanted if name.startswith("penjing>")} <= set(first)
    assert wanted <= set(second)


def copy_run(name: str, recipe: str, folder: Path) -> Path:
    """A saved run, as if it were one of this version of Keras and of penjing."""
    fresh, copied = folder / "fresh", folder / name
    with pytest.raises(make.StoppedError):
        make.compress(RUNS, recipe, fresh, make.stop_at("Baseline"))
    shutil.copytree(RUNS / name, copied)
    replace_digest(copied / MANIFEST, fresh / MANIFEST)
    return copied


def replace_digest(path: Path, fresh: Path) -> None:
    """Runs of another version are begun anew; this is about what they have kept."""
    digest = json.loads(fresh.read_text("utf-8"))["digest"]
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "digest": digest}), "utf-8")


class Listener:
    """Keeps what it is told, and ends a run that comes to a stage."""

    def __init__(self, last: str = "nothing") -> None:
        self.stages: list[str] = []
        self.steps: list[int] = []
        self._stop = make.stop_at(last)

    def __call__(self, event: penjing.Progress) -> None:
        self.stages.append(event.stage)
        self.steps += [event.done] if event.done else []
        self._stop(event)


@pytest.mark.once
@pytest.mark.parametrize(
    ("run", "recipe", "result", "steps", "left"),
    [
        ("stopped", "run", "finished/model.keras", range(961, 1153), {"Training"}),
        ("cuts", "cuts", "cuts.keras", range(1, 13), {"Recovering 2 of 2", "Training"}),
    ],
)
def test_a_stopped_run_goes_on(run, recipe, result, steps, left, tmp_path):
    folder = copy_run(run, recipe, tmp_path)
    before = json.loads((folder / MANIFEST).read_text("utf-8"))["stages"]
    listener = Listener(last="Exporting")
    with pytest.raises(make.StoppedError):
        make.compress(RUNS, recipe, folder, listener)
    assert listener.stages[0].startswith("Going on")
    assert listener.steps and set(listener.steps) <= set(steps)
    after = json.loads((folder / MANIFEST).read_text("utf-8"))["stages"]
    assert after == {**before, **{name: after[name] for name in left}}
    found = cases.values(keras.saving.load_model(folder / "model.keras"))
    wanted = cases.values(keras.saving.load_model(RUNS / result))
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine == 0, theirs == 0)
        # Another processor adds in another order, in two hundred batches.
        np.testing.assert_allclose(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.once
def test_a_finished_run_stays_as_it_is(tmp_path):
    folder = copy_run("finished", "run", tmp_path)
    listener = Listener()
    report = make.compress(RUNS, "run", folder, listener)
    assert not listener.steps  # nothing is trained
    for path in (RUNS / "finished").glob("[bm]*.*"):  # baseline and model
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
    saved = read_json("runs/finished/report.json")
    for key in {*saved} - {"environment", "penjing"}:
        assert_contains(report.to_dict()[key], saved[key], key)
    assert_contains(type(report).from_dict(saved).to_dict(), saved, "report")
    assert saved["title"] in (folder / "report.html").read_text("utf-8")


@pytest.mark.once
def test_channels_of_a_report_are_read():
    saved = read_json("tables/channels.json")
    report = penjing.ChannelReport.from_dict(saved)
    assert_contains(report.to_dict(), saved, "channels")


def test_a_sensitivity_table_is_read():
    table = penjing.SensitivityTable.from_json(TABLES / "sensitivity.json")
    assert_contains(table.to_dict(), read_json("tables/sensitivity.json"), "table")
    assert table.largest_ratio(table.rows[0].name, 1.0) == 0.75


@pytest.mark.once
def test_a_stopped_sensitivity_measurement_goes_on(tmp_path):
    copied, fresh = tmp_path / "table.json", tmp_path / "fresh.json"
    with pytest.raises(make.StoppedError):
        make.measure_sensitivity(fresh, make.stop_at("Measuring"))
    saved = read_json("tables/sensitivity-stopped.json")
    digest = json.loads(fresh.read_text("utf-8"))["digest"]
    assert DIGESTS.get(keras.__version__, digest) == digest
    saved["rows"][0]["scores"]["accuracy"] = 0.125  # to tell it from a new measurement
    copied.write_text(json.dumps(saved), "utf-8")
    replace_digest(copied, fresh)
    table = make.measure_sensitivity(copied, make.silent)
    whole = read_json("tables/sensitivity.json")
    found = [row.scores["accuracy"] for row in table.rows]
    assert found[0] == 0.125
    assert found[1:] == [row["scores"]["accuracy"] for row in whole["rows"][1:]]


@pytest.mark.once
def test_kept_times_of_layers_are_used(tmp_path):
    """They are kept by what was timed, where and with what: this machine's part."""
    saved = read_json("tables/times.json")
    build = penjing.build_latency_model
    here = build(cases.dense(), cache_dir=tmp_path / "new", progress=False)
    times = {}
    for row in saved["times"]:
        where = {"runtime": here.runtime, "processor": here.processor}
        text = json.dumps({**row["description"], **where}, sort_keys=True)
        times[hashlib.sha256(text.encode()).hexdigest()] = row["milliseconds"]
    (tmp_path / saved["file"]).write_text(json.dumps(times), "utf-8")
    made = build(cases.dense(), cache_dir=tmp_path, progress=False).to_dict()
    assert made["overhead"] == saved["model"]["overhead"]
    assert_contains(made["kernels"], saved["model"]["kernels"], "kernels")


@pytest.mark.once
@pytest.mark.parametrize("name", ["model.tflite", "model.float32.tflite"])
def test_a_written_file_holds_what_it_did(name):
    found = penjing.inspect_file(RUNS / "finished" / name)
    kernels = [t for t in found.tensors if t.size in (96, 36)]
    wanted = cases.values(keras.saving.load_model(RUNS / "finished" / "model.keras"))
    zeros = [int((v == 0).sum()) for v in wanted if v.size in (96, 36)]
    assert sorted(t.zeros for t in kernels) == sorted(zeros)
