"""Quantization-aware training of activations: ranges, gradients, steps, refusals."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.engine.activation_cases import data, net, once
from tests.engine.training_cases import to_array

import penjing
from penjing import Grid
from penjing.engine.activations.activation_grids import OBSERVED_BATCHES

JIT = keras.backend.backend() == "jax"


def compiled(model, rate=0.01):
    model.compile(keras.optimizers.Adam(rate), "mse", jit_compile=JIT)
    return model


def nearest(values, scale, zero_point):
    integers = np.rint(values / np.float32(scale)) + zero_point
    return (np.clip(integers, -128, 127) - zero_point) * np.float32(scale)


def test_the_forward_pass_rounds_as_written_down():
    x, _ = data()
    model = penjing.quantize_aware(net(), activations="int8", calibration_data=x)
    grids = model.activations.grids()
    plain = penjing.strip(model)
    scales = list(model.transforms[0].scales().values())
    values = nearest(x, *grids["input_0"])
    for layer, scale, before in zip(
        plain.layers, scales, ("input_0", "hidden"), strict=True
    ):
        step = to_array(scale).ravel() * grids[before][0]
        bias = np.rint(to_array(layer.bias) / step) * step
        values = values @ to_array(layer.kernel) + bias
        if layer.name == "hidden":
            values = np.maximum(values, 0)
        values = nearest(values, *grids[layer.name])
    # Sums in another order move a value over a rounding edge now and then.
    different = np.abs(to_array(model(x)) - values) > 1e-5
    assert different.mean() < 0.02
    assert grids["hidden"][1] == -128
    assert grids["head"][1] > -128


def test_ranges_come_from_the_first_batches_and_are_trained():
    x, y = data()
    model = compiled(penjing.quantize_aware(net(), activations="int8"))
    raw = penjing.strip(model)
    np.testing.assert_allclose(to_array(model(x)), to_array(raw(x)), atol=1e-5)
    model.train_on_batch(x, y)
    low, high = (to_array(v) for v in model.activations.ranges["input_0"])
    np.testing.assert_allclose((low, high), (x.min(), x.max()), rtol=1e-6)
    assert np.abs(to_array(model(x)) - to_array(raw(x))).max() > 1e-3
    model.train_on_batch(x * 3, y)
    np.testing.assert_allclose(
        to_array(model.activations.ranges["input_0"][1]), 2 * x.max(), rtol=1e-6
    )
    model.activations._batches.assign(OBSERVED_BATCHES)
    before = model.activations.grids()
    losses = [float(model.train_on_batch(x, y)) for _ in range(30)]
    np.testing.assert_allclose(
        to_array(model.activations.ranges["input_0"][1]), 2 * x.max(), rtol=1e-6
    )
    assert losses[-1] < 0.8 * losses[0]
    for group, (scale, zero_point) in model.activations.grids().items():
        assert zero_point == before[group][1]
        assert scale != before[group][0]


@once
def test_a_moving_average_follows_the_data():
    x, y = data()
    model = compiled(
        penjing.quantize_aware(net(), activations="int8", learn_scale=False)
    )
    assert not model.activations.trainable_variables
    model.train_on_batch(x, y)
    model.activations._batches.assign(5000)
    model.train_on_batch(x * 2, y)
    np.testing.assert_allclose(
        to_array(model.activations.ranges["input_0"][1]), 1.01 * x.max(), rtol=1e-5
    )


@once
def test_it_begins_at_its_step():
    x, y = data()
    model = compiled(penjing.quantize_aware(net(), activations="int8", begin_step=3))
    with pytest.raises(penjing.CompressionError, match="are not known yet"):
        model.activations.grids()
    for _ in range(3):
        model.train_on_batch(x, y)
    raw = model.model(x)
    assert not model.activations.is_ready
    model.train_on_batch(x, y)
    assert model.activations.is_ready
    assert np.abs(to_array(model(x)) - to_array(raw)).max() > 1e-3


@once
def test_symmetric_grids_and_later_methods():
    x, _ = data()
    model = penjing.quantize_aware(net(), activations=Grid(bits=8), calibration_data=x)
    assert {zero for _, zero in model.activations.grids().values()} == {0}
    pruned = penjing.prune(model, penjing.OneShot(0.5))
    assert pruned.activations.grids() == model.activations.grids()
    pruned(x[:4], training=True)
    assert (to_array(penjing.strip(pruned).layers[0].kernel) == 0).mean() >= 0.5


@once
def test_mixed_precision_trains_and_its_file_computes_in_integers(tmp_path):
    x, y = data()
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(
        penjing.quantize_aware(net(), activations="int8", calibration_data=x)
    )
    losses = [float(model.train_on_batch(x, y)) for _ in range(20)]
    assert losses[-1] < losses[0]
    path = penjing.export_litert(model, tmp_path / "m.tflite", "int8")
    found = penjing.LiteRTModel(path).predict(x)
    step = model.activations.grids()["head"][0]
    # In training float16 loses some bits; the file does not.
    assert np.abs(found - to_array(model(x))).max() < 4 * step


def test_a_pass_leaves_nothing_for_the_collector_of_cycles():
    x, _ = data()
    model = penjing.quantize_aware(net(), activations="int8")
    model(x, training=True)
    gc.collect()
    gc.disable()
    try:
        model(x, training=True)
        kinds = {type(thing).__name__ for thing in gc.get_objects()}
    finally:
        gc.enable()
    assert "_Seen" not in kinds


@pytest.mark.parametrize("is_reshaped", [False, True])
@pytest.mark.parametrize(
    ("activation", "loss"),
    [("softmax", "categorical_crossentropy"), ("sigmoid", "binary_crossentropy")],
)
def test_a_chance_that_rounds_to_zero_still_learns(activation, loss, is_reshaped):
    stack = [layers.Dense(3, activation=activation, name="last")]
    stack += [layers.Reshape((3, 1)), layers.Flatten()] if is_reshaped else []
    model = keras.Sequential([keras.Input((2,)), *stack])
    kernel = model.layers[0].kernel
    model.layers[0].set_weights([np.zeros(kernel.shape), np.array([0.0, 0.0, -9.0])])
    x = np.ones((32, 2), "float32")
    y = np.tile(np.float32([0, 0, 1]), (32, 1))
    trained = penjing.quantize_aware(model, activations="int8", calibration_data=x)
    assert ops.convert_to_numpy(trained(x))[0, 2] == 0
    trained.compile(keras.optimizers.SGD(0.5), loss)
    trained.fit(x, y, batch_size=32, epochs=3, verbose=0)
    bias = ops.convert_to_numpy(penjing.strip(trained).layers[0].bias)
    assert bias[2] > -8.9
    assert ops.convert_to_numpy(trained(x))[0, 2] in np.arange(256) / 256


def test_a_softmax_that_is_read_is_rounded_in_training():
    inputs = keras.Input((4,))
    weights = layers.Softmax()(layers.Dense(4)(inputs))
    model = keras.Model(inputs, [weights, layers.Multiply()([weights, inputs])])
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    trained = penjing.quantize_aware(model, activations="int8", calibration_data=x)
    given = ops.convert_to_numpy(trained(x, training=True)[0])
    np.testing.assert_allclose(given * 256, np.rint(given * 256), atol=1e-3)
