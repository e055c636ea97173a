"""Layers whose code is kept or run again are refused, where that would be wrong."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.small_net import compiled, data, net, steps
from tests.engine.training_cases import BACKEND, arrays

import penjing
from penjing.models.kept_calls import find_kept_calls

AGAIN = keras.remat
not_on_jax = pytest.mark.skipif(BACKEND == "jax", reason="recomputes what was traced")
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="has `tf.function`")


class Rematerialized(layers.Dense):
    """Calls `keras.remat` in a function beside it."""

    def call(self, inputs, training=None):
        return _again(super().call, inputs)


@keras.saving.register_keras_serializable(package="penjing_tests")
class Again(Rematerialized):
    """The same, in files."""


def _again(function, inputs):
    return AGAIN(function)(inputs)


class MadeOnce(layers.Layer):
    """Makes the function that is run again when it is built."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(20, name="inner")
        self.run = keras.remat(self.inner)

    def call(self, inputs):
        return self.run(inputs)


def stack(hidden):
    return keras.Sequential(
        [keras.Input((8,)), hidden, layers.Dense(4, name="head")], name="net"
    )


def in_a_scope():
    with keras.RematScope(mode="full"):
        return net()


CASES = {
    "in call": lambda: stack(Rematerialized(20, name="hidden")),
    "made once": lambda: stack(MadeOnce(name="hidden")),
    "in a scope": in_a_scope,
}


@not_on_jax
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_what_is_run_again_is_refused_with_the_way_out(make):
    with pytest.raises(
        penjing.UnsupportedModelError,
        match="'(hidden|net)'.*again in the backward pass.*without it.*exclude=",
    ):
        penjing.quantize_aware(make(), copy=False)


@not_on_jax
def test_a_loaded_model_is_refused_once_it_trains(tmp_path, monkeypatch):
    # As where it was trained on JAX, and is loaded here to be converted.
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("penjing.engine.engine.find_kept_calls", lambda layer: ())
        model = penjing.quantize_aware(stack(Again(20, name="hidden")), copy=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x, _ = data()
    ours, theirs = (keras.ops.convert_to_numpy(each(x)) for each in (loaded, model))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    with pytest.raises(penjing.UnsupportedModelError, match="in the backward pass"):
        steps(loaded, 1)


@pytest.mark.skipif(BACKEND != "jax", reason="is refused")
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_what_is_run_again_trains_as_without(make):
    model = make()
    twin = net()
    twin.set_weights(model.get_weights())
    ours = penjing.prune(model, penjing.OneShot(0.5, step=2), copy=False)
    theirs = penjing.prune(twin, penjing.OneShot(0.5, step=2))
    if make is not in_a_scope:  # theirs has an activation
        return
    steps(ours, 4), steps(theirs, 4)
    for mine, yours in zip(arrays(ours.model), arrays(theirs.model), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-5)


def test_a_copy_is_made_outside_of_the_scope_and_trains():
    pruned = penjing.prune(in_a_scope(), penjing.OneShot(0.5, step=1))
    before = arrays(pruned.model)[0]
    steps(pruned, 2)
    assert (arrays(pruned.model)[0] != before).any()


@not_on_jax
def test_what_is_left_out_may_run_again():
    model = stack(Rematerialized(20, name="hidden"))
    plain = net()
    plain.layers[0].activation = keras.activations.linear
    plain.set_weights(model.get_weights())
    pruned = penjing.prune(
        model, penjing.OneShot(0.5, step=9), exclude="hidden", copy=False
    )
    steps(pruned, 3), steps(compiled(plain), 3)
    for mine, yours in zip(arrays(pruned.model), arrays(plain), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-5)


def functions():
    import tensorflow as tf

    @tf.function
    def double(x):
        return x * 2.0

    class Decorated(layers.Dense):
        @tf.function
        def call(self, inputs):
            return super().call(inputs)

    class Held(layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            self.run = tf.function(super().call)

        def call(self, inputs):
            return self.run(inputs)

    class Calling(layers.Dense):
        @tf.function
        def triple(self, x):
            return x * 3.0

        def call(self, inputs):
            return self.triple(double(super().call(inputs)))

    return [Decorated(20, name="hidden"), Held(20, name="hidden")], Calling(20)


@on_tensorflow
def test_functions_that_keep_weights_are_refused_with_the_way_out():
    for layer in functions()[0]:
        with pytest.raises(
            penjing.UnsupportedModelError,
            match="'hidden'.*as a tf.function, which keeps.*Take the decorator off",
        ):
            penjing.prune(stack(layer), penjing.OneShot(0.5), copy=False)


@on_tensorflow
def test_functions_that_see_no_weights_are_taken():
    pruned = penjing.prune(stack(functions()[1]), penjing.OneShot(0.5), copy=False)
    steps(pruned, 2)
    pruned.evaluate(*data(), verbose=0)
    assert (arrays(penjing.strip(pruned, copy=False))[0] == 0).mean() == 0.5


@on_tensorflow
def test_a_model_that_ran_is_not_taken_for_one_that_keeps_weights():
    model = compiled(net())
    model.fit(*data(), verbose=0)
    model.predict(data()[0], verbose=0)
    assert list(find_kept_calls(model)) == []
    assert penjing.prune(model, penjing.OneShot(0.5), copy=False).built


@on_tensorflow
@pytest.mark.parametrize("eagerly", [True, False])
def test_functions_of_layers_that_are_left_out_train(eagerly):
    layer = functions()[0][0]
    model = stack(layer)
    before = arrays(model)[0]
    pruned = penjing.prune(model, penjing.OneShot(0.5), exclude="hidden", copy=False)
    pruned.compile("sgd", "mse", run_eagerly=eagerly)
    steps(pruned, 1)
    first = arrays(model)[0]
    pruned.evaluate(*data(), verbose=0)
    steps(pruned, 1)
    assert (first != before).any()
    assert (arrays(model)[0] != first).any()
