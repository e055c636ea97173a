"""What the transforms share: how state is renewed, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from tests.engine.small_net import net

import penjing
from penjing.engine.transforms.weight_transform import (
    Transform,
    check_values,
    choose,
    readable_step,
    renew,
)
from penjing.models.selection import select_weights


def number(value):
    return float(ops.convert_to_numpy(value))


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_one_of_two_is_chosen(holds, known):
    condition = holds if known else ops.convert_to_tensor(holds)
    one, other = ops.ones(()), ops.zeros(())
    (chosen,) = choose(condition, lambda: [one], lambda: [other])
    assert number(chosen) == holds


def test_one_of_two_is_chosen_inside_a_compiled_step():
    class Chooses(keras.layers.Layer):
        def call(self, x):
            due = ops.sum(x) > 0
            return choose(due, lambda: [x * 2], lambda: [x])[0]

    model = keras.Sequential([keras.Input((1,)), Chooses()])
    model.compile(jit_compile=keras.backend.backend() == "jax")
    for value, wanted in ((3.0, 6.0), (-3.0, -3.0)):
        found = model.predict(np.full((1, 1), value), verbose=0)
        assert found.tolist() == [[wanted]]


@pytest.mark.parametrize("due", [True, False])
def test_state_is_renewed_where_it_is_due(due):
    variables = [keras.Variable(1.0), keras.Variable(2.0)]
    renew(variables, due, lambda old: [value + 10 for value in old])
    assert [number(v.value) for v in variables] == ([11, 12] if due else [1, 2])
    renew(
        variables,
        ops.convert_to_tensor(due),
        lambda old: [value * 0 for value in old],
        lambda old: [value * 2 for value in old],
    )
    assert [number(v.value) for v in variables] == ([0, 0] if due else [2, 4])


def test_a_step_is_a_number_where_reading_it_is_free():
    step = readable_step(keras.Variable(7, dtype="int32", trainable=False).value)
    assert int(ops.convert_to_numpy(ops.convert_to_tensor(step))) == 7
    assert isinstance(step, int) == (keras.backend.backend() == "torch")


@pytest.mark.once
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(bad):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="only")])
    (weight,) = select_weights(model).chosen
    values = np.zeros((3, 4))
    check_values(weight, values)
    values[1, :2] = bad
    with pytest.raises(penjing.CompressionError, match="kernel' holds 2 NaN or infini"):
        check_values(weight, values)


@pytest.mark.once
def test_transforms_stand_in_their_order_whatever_the_order_given():
    class First(Transform):
        order = 0

    class Last(Transform):
        order = 3

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    for transform in (First, Last):
        transform.create_state = lambda self, weights, incoming: None
    made = penjing.CompressionModel(model, [Last(), First()])
    assert [type(transform) for transform in made.transforms] == [First, Last]
    assert made.transforms[0].penalty() is None
    assert made.transforms[0].pending(3) is None
    assert made.transforms[0].persist({}) == {}


@pytest.mark.once
@pytest.mark.parametrize(
    "compress",
    [
        penjing.quantize_aware,
        lambda model: penjing.prune(model, penjing.OneShot(0.5)),
        lambda model: penjing.cluster(model, 4),
    ],
)
def test_weights_too_small_for_float32_are_refused(compress):
    model = net()
    kernel = ops.convert_to_numpy(model.layers[0].kernel.value)
    model.layers[0].kernel.assign(kernel * np.float32(1e-37))
    with pytest.raises(
        penjing.CompressionError, match="'net/hidden/kernel' is .*e-38, below 1e-36"
    ):
        compress(model)


@pytest.mark.once
def test_weights_without_values_are_left_out_with_the_reason():
    layers = [keras.layers.Dense(4, name="none"), keras.layers.Dense(3, name="some")]
    model = keras.Sequential([keras.Input((0,)), *layers], name="net")
    pruned = penjing.prune(model, penjing.OneShot(0.5))
    assert pruned.skipped_weights()["net/none/kernel"] == (
        "it holds no values: its shape is (0, 4)"
    )
    with pytest.raises(penjing.UnsupportedModelError, match="it holds no values"):
        penjing.cluster(model, 2, include="none")
