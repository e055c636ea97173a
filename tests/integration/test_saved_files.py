"""Files that version 0.1 saved: models, recipes and names must go on being read.

They lie under `tests/data/saved_by_0_1`, made by the `make.py` beside them with the
TensorFlow backend, and are never made again.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from typing import Any

import keras
import numpy as np
import pytest
from tests.data.saved_by_0_1 import make

import penjing
from penjing import pipeline, tfmot

MODELS = make.FOLDER / "models"
RECIPES = make.FOLDER / "recipes"
# Sums are added in another order by other backends and processors.
TOLERANCE = {"atol": 1e-6, "rtol": 1e-5}
pytestmark = pytest.mark.filterwarnings(
    "ignore:Training ends:penjing.CompressionWarning"
)


def read_json(path: str) -> Any:
    return json.loads((make.FOLDER / path).read_text("utf-8"))


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
    return make.inputs_for(getattr(model, "model", model))[0]


def assert_outputs(model: keras.Model, outputs: np.ndarray) -> None:
    found = keras.ops.convert_to_numpy(model(inputs(model)[:6], training=False))
    np.testing.assert_allclose(found, outputs, **TOLERANCE)


def assert_weights(model: keras.Model, arrays: dict[str, np.ndarray], key: str) -> None:
    """The same zeros exactly, the same values but for rounding."""
    found = make.values(model)
    wanted = [value for name, value in arrays.items() if name.startswith(f"{key}/")]
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine == 0, theirs == 0)
        np.testing.assert_allclose(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("name", FACTS)
def test_a_saved_model_computes_what_it_did(name, expected):
    model = load(f"{name}.keras")
    assert type(model).__name__ == FACTS[name]["class"]
    assert_outputs(model, expected[f"{name}/outputs"])
    assert make.describe(model) == FACTS[name]["weights"]
    assert_weights(penjing.strip(model), expected, f"{name}/stripped")


@pytest.mark.parametrize("name", make.AS_H5)
def test_an_h5_file_computes_what_it_did(name, expected):
    model = load(f"{name}.h5")
    assert_outputs(model, expected[f"{name}/outputs"])
    assert_weights(penjing.strip(model), expected, f"{name}/stripped")


def test_weights_are_loaded_into_a_new_model(expected):
    model = make.MODELS["polynomial"]()
    model.load_weights(MODELS / "polynomial.weights.h5")
    assert_outputs(model, expected["polynomial/outputs"])


def test_a_stripped_model_needs_nothing_of_penjing(expected):
    with zipfile.ZipFile(MODELS / "two_of_four.stripped.keras") as archive:
        assert b"penjing" not in archive.read("config.json")
    assert_weights(load("two_of_four.stripped.keras"), expected, "two_of_four/stripped")


@pytest.mark.parametrize("name", make.GOING_ON)
def test_training_goes_on_where_it_stopped(name, expected):
    model = load(f"{name}.keras")
    make.go_on(model, 2)
    assert_weights(penjing.strip(model), expected, f"{name}/later")


def test_an_annotated_model_can_still_be_quantized(expected):
    model = load("tfmot_annotated.keras")
    quantized = tfmot.quantization.keras.quantize_apply(model)
    rows = {row["path"]: row["distinct"] for row in make.describe(quantized)}
    assert rows["quant_hidden/kernel"] <= 15  # the four bits of the file's own config


def test_every_registered_class_is_in_a_file():
    texts = [path.read_text("utf-8") for path in make.FOLDER.glob("objects/*.json")]
    for path in MODELS.glob("*.keras"):
        with zipfile.ZipFile(path) as archive:
            texts.append(archive.read("config.json").decode())
    missing = [
        n for n in read_json("names/registered.json") if f'"{n}"' not in str(texts)
    ]
    assert not missing


@pytest.mark.parametrize("name", make.make_values())
def test_a_serialized_value_is_read_as_it_was(name):
    saved = read_json("objects/serialized.json")[name]
    assert keras.saving.deserialize_keras_object(saved) == make.make_values()[name]


@pytest.mark.parametrize("name", read_json("objects/schedules.json"))
def test_a_schedule_is_read_from_its_text(name):
    text = read_json("objects/schedules.json")[name]
    assert penjing.schedule_from_json(text) == make.make_values()[name]


@pytest.mark.once
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_a_recipe_is_read_as_it_was(path):
    recipe = pipeline.load_recipe(path)
    assert recipe.to_dict() == read_json("recipes/read.json")[path.stem]
    assert pipeline.recipe_from_dict(recipe.to_dict()) == recipe


@pytest.mark.once
def test_packaged_recipes_are_what_they_were():
    names = [p.stem.removeprefix("packaged-") for p in RECIPES.glob("packaged-*.toml")]
    assert sorted(names) == pipeline.packaged_recipes()
    for name in names:
        saved = pipeline.load_recipe(RECIPES / f"packaged-{name}.toml")
        assert pipeline.load_recipe(name) == saved


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
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    first, second = json.loads(ran.stdout.splitlines()[-1])
    wanted = set(read_json("names/registered.json"))
    assert {name for name in wanted if name.startswith("penjing>")} <= set(first)
    assert wanted <= set(second)
