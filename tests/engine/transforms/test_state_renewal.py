"""How state gets new values where it is due, in a step and outside of one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from penjing.engine.transforms.state_renewal import choose, readable_step, renew


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


def test_state_is_renewed_within_a_compiled_step():
    class Counts(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.one = self.add_weight(shape=(), initializer="ones")
            self.last = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            renew([self.last], ops.sum(x) > 0, lambda old: [old[0] + ops.sum(x)])
            return x * self.one + self.last

    layer = Counts()
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile("sgd", "mse")
    for value, wanted in ((3.0, 3.0), (-3.0, 3.0), (2.0, 5.0)):
        x = np.full((1, 1), value)
        assert model.train_on_batch(x, x + wanted) == 0
        assert number(layer.last.value) == wanted


def test_a_step_is_a_number_where_reading_it_is_free():
    step = readable_step(keras.Variable(7, dtype="int32", trainable=False).value)
    assert int(ops.convert_to_numpy(ops.convert_to_tensor(step))) == 7
    assert isinstance(step, int) == (keras.backend.backend() == "torch")
