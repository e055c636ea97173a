"""A small network whose activations are rounded."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

once = pytest.mark.once


def net():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(3, name="head"),
        ],
        name="net",
    )


def data(count=64):
    x = np.random.default_rng(0).normal(size=(count, 6)).astype("float32")
    return x, x[:, :3] * 2 - x[:, 3:]
