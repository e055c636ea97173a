"""Nothing stays of training steps that were compiled for models that are gone."""

import gc

import keras
import numpy as np
import pytest

from penjing.pipeline.runs.compiled_steps import _gradients, steps_forgotten

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="TensorFlow keeps them"
    ),
]


def train(model):
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    return float(model.evaluate(np.ones((4, 2)), np.ones((4, 1)), verbose=0))


def make_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_the_graphs_of_training_steps_go_and_the_models_still_train():
    import tensorflow as tf

    def graphs():
        gc.collect()
        return sum(type(o).__name__ == "FuncGraph" for o in gc.get_objects())

    @tf.custom_gradient
    def own(x):
        return x * 2, lambda dy: dy * 3

    before, names = graphs(), set(_gradients())
    model = make_model()
    with steps_forgotten():
        first = train(model)
        function = tf.function(lambda x: own(x))
        function(tf.constant(1.0))
    added = set(_gradients()) - names
    assert len(added) == 1  # somebody's own gradient stays
    assert train(model) < first
    with steps_forgotten():
        train(make_model())
    del model, function
    for name in added:
        del _gradients()[name]
    # `train(model)` of above was not forgotten, its step was compiled before.
    assert graphs() == before
