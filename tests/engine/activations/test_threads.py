"""Predictions from many threads, as in a server: right, and nothing is left behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.activation_cases import data
from tests.engine.training_cases import BACKEND, to_array

import penjing

THREADS, ROUNDS = 8, 5


def net():
    """Hooks of all kinds: nested, shared, separable, gated; two inputs rounded."""
    inside = layers.Input((8,))
    inner = keras.Sequential(
        [layers.Input((8,)), layers.Dense(8, activation="silu"), layers.ReLU()]
    )
    nested = keras.Model(inside, inner(inside), name="nested")
    inputs = layers.Input((6,))
    shared = layers.Dense(8, activation="tanh", name="shared")
    x = nested(layers.Concatenate()([shared(inputs), shared(inputs * 2.0)])[:, :8])
    x = layers.Reshape((4, 2))(x)
    x = layers.SeparableConv1D(3, 2, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def quantized():
    x, _ = data()
    return penjing.quantize_aware(net(), activations="int8", calibration_data=x)


def together(call, batches):
    """What 8 threads get that call a function on batches of their own, again and
    again."""
    start = threading.Barrier(THREADS)

    def run(number):
        start.wait()
        return [call(batches[number]) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(run, range(THREADS)))


def check_same(model, call):
    batches = [data(64)[0][8 * i : 8 * i + 8] for i in range(THREADS)]
    alone = [call(batch) for batch in batches]
    for right, found in zip(alone, together(call, batches), strict=True):
        for outputs in found:
            # Compilers may fuse otherwise; a rounding lost is off by more.
            np.testing.assert_allclose(outputs, right, atol=1e-5)
    for layer in model.model.layers:
        assert "call" not in vars(layer)


def test_eager_calls_of_many_threads_are_right(quantized):
    check_same(quantized, lambda x: to_array(quantized(x)))


@pytest.mark.skipif(BACKEND == "jax", reason="Keras' own `predict` there takes one")
def test_predictions_of_many_threads_are_right(quantized):
    quantized.predict(data(8)[0], verbose=0)
    check_same(quantized, lambda x: quantized.predict(x, verbose=0))


@pytest.mark.skipif(BACKEND != "jax", reason="how JAX compiles")
def test_compiled_calls_of_many_threads_are_right(quantized):
    import jax

    values = [[v.value for v in quantized.trainable_variables]]
    values.append([v.value for v in quantized.non_trainable_variables])
    forward = jax.jit(lambda x: quantized.stateless_call(*values, x)[0])
    check_same(quantized, lambda x: to_array(forward(x)))


def test_a_model_is_saved_and_calibrated_while_others_predict(quantized):
    x, _ = data()
    batch = x[:8]
    right, config = to_array(quantized(batch)), quantized.get_config()

    def call(_):
        if threading.current_thread().name.endswith("_0"):
            assert quantized.get_config() == config
            penjing.quantize_aware(
                quantized.model, activations="int8", calibration_data=x, copy=False
            )
        return to_array(quantized(batch))

    for found in together(call, [batch] * THREADS):
        for outputs in found:
            np.testing.assert_allclose(outputs, right, atol=1e-5)
