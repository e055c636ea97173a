"""A training that can be killed: run as a script, it kills itself half-way.

python -m tests.pipeline.resumable FOLDER KILL_AFTER STEPS_BETWEEN_SAVES
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

from penjing.pipeline import (
    FractionalSchedule,
    PruningConfig,
    Recipe,
    TrainingRecipe,
    run_recipe,
    training,
)
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training import set_global_seeds

EPOCHS = 3


def build_model():
    set_global_seeds(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.3, name="drop"),
            keras.layers.Dense(4, name="logits"),
        ],
        name="resumable",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def make_data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(157, 6)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32") + 2 * (x[:, 1] > 0).astype("int32")


RECIPE = Recipe(
    name="tiny",
    training=TrainingRecipe(epochs=EPOCHS, batch_size=8, learning_rate=0.01),
    methods=(
        PruningConfig(
            scope="global",
            schedule=FractionalSchedule(
                initial_sparsity=0.2, final_sparsity=0.7, end=0.9, frequency=3
            ),
        ),
    ),
)


# 20 batches an epoch; with a state every 8 batches: 8, 16, 20, 28, 36, 40, ...
def train(folder=None, progress=lambda event: None):
    state = RunState(Path(folder), "digest") if folder else None
    return run_recipe(
        build_model(), make_data(), RECIPE, seed=5, state=state, progress=progress
    )


if __name__ == "__main__":

    def kill(event):
        if event.done >= int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    training.STEPS_BETWEEN_SAVES = int(sys.argv[3])
    training.SECONDS_BETWEEN_SAVES = 0.0
    train(sys.argv[1], kill)
