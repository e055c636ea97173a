"""Models to cluster by the names of tfmot, and their training."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from tests.engine.training_cases import to_array

from penjing import tfmot

clustering = tfmot.clustering.keras


Init = clustering.CentroidInitialization


JIT = keras.backend.backend() == "jax"


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(name="flat"),
            layers.Dense(4, name="head"),
        ],
        name="net",
    )


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 8, 8, 2)).astype("float32")
    return x, rng.normal(size=(16, 4)).astype("float32")


def train(model, batches=2):
    model.compile("adam", "mse", jit_compile=JIT)
    for _ in range(batches):
        model.train_on_batch(*data())
    return model


def distinct(model, name):
    kernel = to_array(model.get_layer(name).kernel)
    return np.unique(kernel).size
