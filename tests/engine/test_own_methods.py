"""Inner models with a loss or a training step of their own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from tests.engine.training_cases import (
    BACKEND,
    BATCH,
    assert_same_weights,
    check_sparsity,
    make_data,
    make_loss,
    make_model,
    ramp,
    to_array,
    zeros,
)

import penjing


class Base(keras.Model):
    """Two dense layers, 128 and 64 kernel weights."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(16, activation="relu", name="hidden")
        self.head = keras.layers.Dense(4, name="head")

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build((None, 16))
        self.built = True

    def call(self, inputs):
        return self.head(self.hidden(inputs))


def cross_entropy(y, y_pred):
    losses = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
    return ops.mean(losses)


@keras.saving.register_keras_serializable(package="tests")
class WithoutCompiledLoss(Base):
    """Its loss needs nothing from `compile`; written before Keras 3.3."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return cross_entropy(y, y_pred)


@keras.saving.register_keras_serializable(package="tests")
class CallsSuper(Base):
    """Adds to the compiled loss, only in training."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + (0.1 * ops.mean(y_pred**2) if training else 0.0)


@keras.saving.register_keras_serializable(package="tests")
class ReadsWeights(Base):
    """Penalizes weights and calls a layer again: both must see the masked ones."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        penalty = ops.mean(ops.abs(self.hidden.kernel))
        again = ops.mean(self.head(self.hidden(x)) ** 2)
        return cross_entropy(y, y_pred) + penalty + 0.1 * again


@keras.saving.register_keras_serializable(package="tests")
class AddsLoss(Base):
    """`add_loss` in `call`, summed up in `compute_loss`."""

    def call(self, inputs):
        hidden = self.hidden(inputs)
        self.add_loss(0.1 * ops.mean(hidden**2))
        return self.head(hidden)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return cross_entropy(y, y_pred) + sum(self.losses)


@keras.saving.register_keras_serializable(package="tests")
class TracksMetrics(Base):
    """Has trackers of its own, in `call`, `compute_loss` and `compute_metrics`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.activity = keras.metrics.Mean(name="activity")
        self.magnitude = keras.metrics.Mean(name="magnitude")
        self.distance = keras.metrics.Mean(name="distance")

    def call(self, inputs):
        hidden = self.hidden(inputs)
        if BACKEND != "jax":  # where Keras has no metrics in `call`
            self.activity.update_state(ops.mean(hidden))
        return self.head(hidden)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.distance.update_state(ops.mean(ops.abs(y_pred)))
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**results, "doubled": 2.0 * results["distance"]}

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        self.magnitude.update_state(ops.mean(ops.abs(y_pred)))
        return cross_entropy(y, y_pred)


LOSSES = (WithoutCompiledLoss, CallsSuper, ReadsWeights, AddsLoss, TracksMetrics)


def built(model):
    model.build((None, 8))
    return model


def compiled(model, plain_class):
    loss = make_loss() if plain_class is CallsSuper else None
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


@pytest.mark.parametrize("plain_class", LOSSES)
def test_own_loss_trains_as_in_the_plain_model_then_prunes(plain_class):
    x, y = make_data()
    plain = built(plain_class())
    pruned = penjing.prune(plain, ramp(begin_step=9, end_step=15))
    compiled(plain, plain_class), compiled(pruned, plain_class)
    options = {"verbose": 0, "shuffle": False}
    if plain_class in (CallsSuper, TracksMetrics):  # evaluate differently
        options["validation_data"] = (x, y)
    theirs = plain.fit(x, y, BATCH, epochs=2, **options).history
    with pytest.warns(penjing.CompressionWarning, match="ends at step 15"):
        ours = pruned.fit(x, y, BATCH, epochs=2, **options).history
    assert_same_weights(pruned, plain)
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5, err_msg=name)

    pruned.fit(x, y, BATCH, epochs=2, **options)
    assert set(zeros(pruned).values()) == {0.75}
    check_sparsity(pruned)


def test_own_loss_sees_the_masked_weights():
    x, y = make_data()
    plain = built(ReadsWeights())
    pruned = penjing.prune(plain, penjing.OneShot(0.75))
    compiled(pruned, ReadsWeights)
    pruned(x, training=True)  # cuts, and leaves the raw weights as they were
    assert set(zeros(pruned).values()) == {0.0}
    stripped = compiled(penjing.strip(pruned), ReadsWeights)
    ours = pruned.evaluate(x, y, BATCH, verbose=0, return_dict=True)
    theirs = stripped.evaluate(x, y, BATCH, verbose=0, return_dict=True)
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)


def test_own_loss_is_saved_and_loaded_with_the_model(tmp_path):
    x, y = make_data()
    pruned = penjing.prune(built(CallsSuper()), ramp())
    compiled(pruned, CallsSuper).fit(x, y, BATCH, epochs=2, verbose=0)
    pruned.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    ours = pruned.evaluate(x, y, verbose=0), loaded.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(*ours, rtol=1e-6)
    loaded.fit(x, y, BATCH, epochs=1, verbose=0)
    assert int(to_array(loaded.step)) == 12


@keras.saving.register_keras_serializable(package="tests")
class OwnTrainStep(Base):
    def train_step(self, *args):
        return super().train_step(*args)


@keras.saving.register_keras_serializable(package="tests")
class OwnTestStep(Base):
    def test_step(self, *args):
        return super().test_step(*args)


@keras.saving.register_keras_serializable(package="tests")
class OwnPredictStep(Base):
    def predict_step(self, *args):
        return super().predict_step(*args)


@pytest.mark.parametrize(
    ("plain_class", "method"),
    [
        (OwnTrainStep, "train_step"),
        (OwnTestStep, "test_step"),
        (OwnPredictStep, "predict_step"),
    ],
)
def test_own_step_is_refused_with_the_way_out(plain_class, method):
    pruned = penjing.prune(built(plain_class()), ramp())
    message = f"{plain_class.__name__} defines its own `{method}`.*prune_layer"
    with pytest.raises(penjing.UnsupportedModelError, match=message):
        pruned.compile("sgd", make_loss())


def test_own_step_of_a_functional_subclass_is_refused_too():
    class Functional(keras.Model):
        def train_step(self, *args):
            return super().train_step(*args)

    plain = make_model()
    model = Functional(plain.inputs, plain.outputs)
    with pytest.raises(penjing.UnsupportedModelError, match=r"`train_step`|copied"):
        penjing.prune(model, ramp()).compile("sgd", make_loss())


class WrapsItsLayers(Base):
    """The way out: single layers pruned inside a model that keeps its own step."""

    def __init__(self, schedule, **kwargs):
        super().__init__(**kwargs)
        self.hidden = penjing.prune_layer(self.hidden, schedule)
        self.head = penjing.prune_layer(self.head, schedule)
        self.steps_taken = 0

    def call(self, inputs, training=None):
        # Passed on by name, as for Dropout: on JAX, Keras does not do it by itself.
        return self.head(self.hidden(inputs, training=training), training=training)

    def build(self, input_shape):
        self.head(self.hidden(keras.KerasTensor((None, 8))))
        self.built = True

    def train_step(self, *args):
        self.steps_taken += 1
        return super().train_step(*args)


def test_wrapped_layers_train_in_a_model_with_its_own_step():
    x, y = make_data()
    plain = built(Base())
    model = built(WrapsItsLayers(ramp(begin_step=9, end_step=15)))
    for mine, yours in zip(
        model.trainable_variables, plain.trainable_variables, strict=True
    ):
        mine.assign(to_array(yours))
    for each in (plain, model):
        each.compile(keras.optimizers.SGD(0.1), make_loss())
        each.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False)
    assert model.steps_taken > 0
    assert_same_weights(model, plain)

    model.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False)
    before = to_array(model(x))
    for layer in (model.hidden, model.head):
        assert int(to_array(layer.step)) == 16
        stripped = penjing.strip_layer(layer)
        assert float((to_array(stripped.kernel) == 0).mean()) == 0.75
        layer.write_back()
    assert set(zeros(model).values()) == {0.75}
    np.testing.assert_array_equal(to_array(model(x)), before)


def test_wrapped_layers_of_a_sequential_model_are_stripped_by_penjing():
    x, y = make_data()
    model = keras.Sequential(
        [
            keras.Input((8,)),
            penjing.prune_layer(keras.layers.Dense(16, activation="relu"), ramp()),
            keras.layers.Dense(4),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), make_loss())
    model.fit(x, y, BATCH, epochs=2, verbose=0)
    stripped = penjing.strip(model)
    assert sorted(zeros(stripped).values()) == [0.0, 0.75]
    np.testing.assert_allclose(to_array(stripped(x)), to_array(model(x)), atol=1e-6)


def test_wrapped_layer_counts_one_step_for_several_calls():
    x, _ = make_data()
    shared = penjing.prune_layer(keras.layers.Dense(8, name="shared"), ramp())
    inputs = keras.Input((8,))
    model = keras.Model(inputs, shared(shared(inputs)))
    model.compile("sgd", "mse")
    model.fit(x, x, BATCH, epochs=1, verbose=0)
    assert int(to_array(shared.step)) == 4
    model.train_on_batch(x, x)
    assert int(to_array(shared.step)) == 5


def test_layers_that_never_saw_training_are_reported_by_strip():
    class ForgetsTraining(Base):
        def __init__(self):
            super().__init__()
            self.hidden = penjing.prune_layer(self.hidden, penjing.OneShot(0.5))

        def build(self, input_shape):
            self.hidden(keras.KerasTensor((None, 8)))
            super().build(input_shape)

    x, y = make_data()
    model = built(ForgetsTraining())
    model.compile(keras.optimizers.SGD(0.1), make_loss())
    model.fit(x, y, BATCH, verbose=0)
    with pytest.warns(penjing.CompressionWarning, match="`training=training`"):
        penjing.strip_layer(model.hidden)
