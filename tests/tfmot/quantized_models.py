"""Models to quantize by the names of tfmot, and their training."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from tests.engine.training_cases import to_array

from penjing import tfmot

quantization = tfmot.quantization.keras


combine = tfmot.experimental.combine


JIT = keras.backend.backend() == "jax"


def dense(units=8, inputs=12):
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dense(units, activation="relu", name="body"),
            layers.Dense(4, name="head"),
        ],
        name="small",
    )


def data(*shape, count=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, *shape)).astype("float32")
    return x, rng.normal(size=(count, 4)).astype("float32")


def train(model, *shape, epochs=1):
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=JIT)
    model.fit(*data(*shape), batch_size=8, epochs=epochs, verbose=0)
    return model


def outputs(model, x):
    """Compiled as one, which takes JAX less time than each operation by itself."""
    if keras.backend.backend() != "jax":
        return to_array(model(x))
    return model.predict(x, batch_size=len(x), verbose=0)


def kernels(model):
    return [to_array(w) for w in model.weights if w.path.endswith("kernel")]
