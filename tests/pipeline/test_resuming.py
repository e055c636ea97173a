"""A run that is stopped between any two stages ends with the same bytes."""

import random

import keras
import numpy as np
import pytest
from keras import layers
from tests.pipeline.channel_cases import data, recipe

import penjing
from penjing.models.model_files import load_keras_model
from penjing.pipeline import FractionalSchedule, PruningConfig, run_recipe
from penjing.pipeline.runs.model_writing import write_keras
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training import set_global_seeds

PLAN = recipe(
    PruningConfig(schedule=FractionalSchedule(final_sparsity=0.5, frequency=3)),
    epochs_before=0,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model whose layers draw random numbers, with and without seeds of their own."""
    set_global_seeds(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(32, name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.3, name="drop"),
            layers.ReLU(name="relu"),
            layers.Dropout(0.1, seed=5, name="again"),
            layers.Dense(4, name="logits"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    path = tmp_path_factory.mktemp("saved") / "net.keras"
    write_keras(model, path)
    return path


class StoppedError(Exception):
    """What stands for a kill: nothing in the package catches it."""


def stop_at(stage):
    def listen(event):
        if event.stage == stage:
            raise StoppedError

    return listen


def run(saved, folder, listen, *, luck):
    """What one process does, which has drawn random numbers before."""
    random.seed(luck)
    np.random.seed(luck)
    state = RunState(folder, "digest")
    return run_recipe(
        load_keras_model(saved), data(), PLAN, seed=1, state=state, progress=listen
    )


def values(model):
    return [keras.ops.convert_to_numpy(v.value) for v in penjing.strip(model).weights]


@pytest.mark.costly_on_jax
def test_stopped_before_every_stage_it_ends_with_the_same_weights(saved, tmp_path):
    heard = []
    whole = run(
        saved, tmp_path / "whole", lambda event: heard.append(event.stage), luck=0
    )
    stages = list(dict.fromkeys(heard))
    assert stages == [
        "Cutting channels 1 of 2",
        "Recovering 1 of 2",
        "Cutting channels 2 of 2",
        "Recovering 2 of 2",
        "Training",
    ]
    for luck, stage in enumerate(stages, start=1):
        with pytest.raises(StoppedError):
            run(saved, tmp_path / "cut", stop_at(stage), luck=luck)
    again = run(saved, tmp_path / "cut", lambda event: None, luck=9)
    for left, right in zip(values(again), values(whole), strict=True):
        np.testing.assert_array_equal(left, right)
    for file in (tmp_path / "whole").glob("*.keras"):
        assert (tmp_path / "cut" / file.name).read_bytes() == file.read_bytes()
