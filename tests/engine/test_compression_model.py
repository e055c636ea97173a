"""Inner models with a loss or a training step of their own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from tests.engine.own_cases import Base, built
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
from tests.jax_cases import few_on_jax

import penjing


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


def compiled(model, plain_class):
    loss = make_loss() if plain_class is CallsSuper else None
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


@pytest.mark.parametrize(
    "plain_class", few_on_jax(LOSSES, ReadsWeights, AddsLoss, TracksMetrics)
)
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
