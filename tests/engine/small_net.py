"""A small network to cluster or round, its data and its steps."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from tests.engine.training_cases import to_array

ROWS = 32
JIT = keras.backend.backend() == "jax"


def compiled(model, optimizer=None, *, traced=True):
    """Without XLA but on JAX; few steps untraced: TensorFlow traces for seconds."""
    model.compile(
        optimizer or keras.optimizers.SGD(0.01),
        "mse",
        jit_compile=JIT,
        run_eagerly=not (traced or JIT),
    )
    return model


def data(inputs=(8,), outputs=(4,)):
    rng = np.random.default_rng(0)
    make = [rng.normal(size=(ROWS, *shape)) for shape in (inputs, outputs)]
    return [array.astype("float32") for array in make]


def net(units=20):
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(4, name="head"),
        ],
        name="net",
    )


def kernels(model):
    """Weights of two and more axes by path, without the engine's own."""
    model = getattr(model, "model", model)
    values = {v.path: to_array(v) for v in model.trainable_variables}
    return {
        path: value
        for path, value in values.items()
        if value.ndim > 1 and not path.endswith("bias")
    }


def steps(model, count, x=None, y=None):
    x, y = (x, y) if x is not None else data()
    if not model.compiled:
        compiled(model)
    for _ in range(count):
        model.train_on_batch(x, y)
    return model
