"""A few damaged files of every kind; `benchmarks/hostile_files.py` tries thousands."""

from __future__ import annotations

import importlib.util
import random
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import penjing
from penjing.data.data_sources import load_data
from penjing.errors import CompressionError
from penjing.models.model_files import load_keras_model
from penjing.pipeline import load_recipe

pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::penjing.errors.CompressionWarning"),
]
CHECKOUT = Path(__file__).parents[1]


def read_source(name):
    path = CHECKOUT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hostile = read_source("hostile_content")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(folder / "sound.keras")
    model.save(folder / "sound.h5")
    x, y = np.eye(4, dtype="float32")[[0, 1, 2, 3] * 5], np.arange(20) % 3
    np.savez(folder / "sound.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    file = Path(__file__).parent / "data/mlperf_tiny/keyword_spotting.tflite"
    for name in ("float", "int8"):
        shutil.copy(file, folder / f"{name}.tflite")
    table = penjing.SensitivityTable(
        model="it",
        method="weights",
        baseline={"loss": 0.5},
        rows=(
            penjing.SensitivityRow(
                name="a", ratio=0.5, removed=1, size=2, scores={"loss": 0.6}
            ),
        ),
    )
    table.to_json(folder / "sound.json")
    recipe = CHECKOUT / "src/penjing/recipes/smallest.toml"
    shutil.copy(recipe, folder / "sound.toml")
    return folder


def inspect_and_load(path):
    penjing.inspect_file(path)
    if path.suffix == ".tflite":
        penjing.LiteRTModel(path)
    else:
        load_keras_model(path)


@pytest.mark.parametrize(
    ("kind", "count", "read"),
    [
        ("tflite", 12, inspect_and_load),
        ("keras", 12, inspect_and_load),
        ("h5", 8, inspect_and_load),
        ("npz", 60, lambda path: load_data(path)),
        ("recipe", 60, load_recipe),
        ("json", 80, penjing.SensitivityTable.from_json),
    ],
)
def test_damaged_files_are_read_or_refused(sound, tmp_path, kind, count, read):
    outcomes = set()
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = hostile.make_file(kind, sound, folder, random.Random(f"{kind} {number}"))
        try:
            read(path)
            outcomes.add("read")
        except CompressionError as error:
            assert str(error)
            outcomes.add("refused")
        assert [item.name for item in folder.iterdir()] == [path.name]
    assert "refused" in outcomes
