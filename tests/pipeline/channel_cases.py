"""A small network to cut, its data, and a recipe of cuts."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
from keras import layers

from penjing.pipeline import (
    ChannelPruneRecipe,
    Recipe,
    TrainingRecipe,
)
from penjing.pipeline.training import set_global_seeds


def build():
    set_global_seeds(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(32, name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dense(4, name="logits"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def data(count=150):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 6)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32") + 2 * (x[:, 1] > 0).astype("int32")


CUTS = ChannelPruneRecipe(
    ratio=0.75,
    steps=2,
    epochs_before=1,
    recovery_epochs=1,
    group_lasso=0.05,
    distillation=0.5,
    batch_norm_batches=2,
)


TRAINING = TrainingRecipe(epochs=2, batch_size=16, learning_rate=0.01)


def recipe(*methods, **changes):
    cuts = dataclasses.replace(CUTS, **changes)
    return Recipe(name="tiny", training=TRAINING, methods=(cuts, *methods))
