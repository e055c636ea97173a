"""Constant channels: removed with what they add kept, exactly."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

from penjing.channels.constant_channels import fold_constant_channels
from penjing.channels.removal import remove_channels
from penjing.channels.tracing import trace_channels

UNITS, GONE = 6, [1, 4]


def finished(inputs, outputs):
    model = keras.Model(inputs, outputs, name="net")
    rng = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.2 if "variance" in variable.path else -1.0
        variable.assign(rng.uniform(low, 1.0, variable.shape))
    return model


def empty(variable, axis=-1):
    value = np.moveaxis(to_array(variable).copy(), axis, 0)
    value[GONE] = 0
    variable.assign(np.moveaxis(value, 0, axis))


def dense():
    inputs = keras.Input((3,))
    x = layers.Dense(UNITS, activation="sigmoid", name="made")(inputs)
    model = finished(inputs, layers.Dense(2, name="reader")(x))
    empty(model.get_layer("made").kernel)
    return model


def sequence():
    return keras.Sequential(dense().layers, name="net")


def convolutions(padding="valid", between=None):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(UNITS, 3, name="made")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("softplus", name="bend")(x)
    if between is not None:
        x = between(x)
    x = layers.Conv2D(3, 3, padding=padding, name="reader")(x)
    model = finished(inputs, layers.Flatten(name="out")(x))
    empty(model.get_layer("norm").gamma)
    return model


def flattened():
    """Pooling, Flatten and Dense: every position has its own constant."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(UNITS, 3, padding="same", name="made")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(2, name="pool")(x))
    model = finished(inputs, layers.Dense(3, name="reader")(x))
    empty(model.get_layer("made").kernel)
    return model


def residual():
    """Two producers: the constant is the sum of both."""
    inputs = keras.Input((5,))
    first = layers.Dense(UNITS, name="made")(inputs)
    second = layers.Dense(UNITS, activation="tanh", name="other")(inputs)
    x = layers.add([first, second], name="sum")
    model = finished(inputs, layers.Dense(2, name="reader")(x))
    for name in ("made", "other"):
        empty(model.get_layer(name).kernel)
    return model


def cut(model, fold=True):
    graph = trace_channels(model)
    group = next(g for g in graph.groups if "made" in " ".join(g.layers))
    mask = np.ones(UNITS, bool)
    mask[GONE] = False
    kept = {group.name: mask}
    folded = fold_constant_channels(model, graph, kept) if fold else model
    return remove_channels(folded, trace_channels(folded), kept), folded


def samples(model):
    rng = np.random.default_rng(5)
    return rng.normal(size=(4, *model.inputs[0].shape[1:])).astype("float32")


def difference(model, smaller):
    x = samples(model)
    return float(np.abs(to_array(model(x)) - to_array(smaller(x))).max())


EXACT = [dense, sequence, convolutions, flattened, residual]


@pytest.mark.parametrize(
    "build", EXACT if keras.backend.backend() != "jax" else [dense]
)
def test_outputs_stay_when_constant_units_go(build):
    model = build()
    before = [to_array(v) for v in model.variables]
    smaller, _ = cut(model)
    assert difference(model, smaller) < 1e-5
    plain, _ = cut(model, fold=False)
    assert difference(model, plain) > 1e-2, "there was nothing to fold"
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, to_array(variable))


@pytest.mark.once
@pytest.mark.parametrize(
    "build",
    [
        lambda: convolutions("same"),
        lambda: convolutions(between=layers.ZeroPadding2D(1)),
        lambda: convolutions(between=layers.DepthwiseConv2D(3, padding="same")),
    ],
)
def test_nothing_is_folded_where_padding_mixes_zeros_in(build):
    model = build()
    assert cut(model)[1] is model


@pytest.mark.once
def test_units_with_weights_are_never_taken_for_constants():
    model = dense()
    kernel = to_array(model.get_layer("made").kernel).copy()
    kernel[0, GONE] = 1e-20  # saturates nothing, but is no zero
    model.get_layer("made").kernel.assign(kernel)
    assert cut(model)[1] is model


@pytest.mark.once
def test_scales_of_one_of_two_makers_say_nothing():
    """The other one saturates a bounded activation on most inputs, not on all."""
    inputs = keras.Input((3,))
    scaled = layers.Dense(UNITS, name="scaled")(inputs)
    x = layers.Dense(UNITS, name="made")(inputs)
    x = x + layers.BatchNormalization(name="norm")(scaled)
    x = layers.Activation("hard_sigmoid", name="bound")(100.0 * x)
    model = finished(inputs, layers.Dense(2, name="reader")(x))
    empty(model.get_layer("norm").gamma)
    model.get_layer("made").bias.assign(np.full(UNITS, 3.0))
    assert cut(model)[1] is model


@pytest.mark.once
def test_states_stay_as_they_are():
    inputs = keras.Input((4, 3), batch_size=2)
    kept = layers.LSTM(4, stateful=True, return_sequences=True, name="kept")
    made = layers.Dense(UNITS, activation="sigmoid", name="made")
    model = finished(inputs, layers.Dense(2, name="reader")(made(kept(inputs))))
    empty(made.kernel)
    model(np.ones((2, 4, 3), "float32"))
    before = [to_array(state) for state in kept.states]
    assert cut(model)[1] is not model, "there was nothing to fold"
    for old, state in zip(before, kept.states, strict=True):
        np.testing.assert_array_equal(old, to_array(state))


@pytest.mark.once
@pytest.mark.parametrize("length", [5, None])
def test_what_depends_on_the_length_is_folded_for_a_fixed_one_only(length):
    inputs = keras.Input((length, 3))
    made = layers.LSTM(UNITS, name="made")
    model = finished(inputs, layers.Dense(2, name="reader")(made(inputs)))
    for kernel in made.weights[:2]:
        gates = to_array(kernel).reshape(-1, 4, UNITS).copy()
        gates[..., GONE] = 0
        kernel.assign(gates.reshape(kernel.shape))
    made.weights[2].assign(np.ones(4 * UNITS))  # remembers for long
    assert (cut(model)[1] is model) is (length is None)


@pytest.mark.once
def test_a_shared_reader_keeps_its_bias():
    inputs = keras.Input((3,))
    reader = layers.Dense(2, name="reader")
    made = layers.Dense(UNITS, name="made")(inputs)
    outputs = [reader(made), reader(layers.Dense(UNITS, name="other")(inputs))]
    model = finished(inputs, outputs)
    for name in ("made", "other"):
        empty(model.get_layer(name).kernel)
    assert cut(model)[1] is model
