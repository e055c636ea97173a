"""Callbacks: zeros written back, schedules reported, files for TensorBoard."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.tfmot.test_event_file import read_scalars

import penjing
from penjing import tfmot

sparsity = tfmot.sparsity.keras


def pruned_model(schedule):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, use_bias=False, name="dense")]
    )
    pruned = sparsity.prune_low_magnitude(model, schedule)
    pruned.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return pruned


def fit(model, callbacks, epochs=1):
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.fit(
        x,
        x[:, ::-1],
        batch_size=2,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
        validation_data=(x, x),
    )


def zeros(model):
    return int(np.count_nonzero(ops.convert_to_numpy(model.weights[0]) == 0))


def test_zeros_are_written_at_the_end_of_epochs():
    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(zeros(self.model))

    counts = []
    model = pruned_model(sparsity.PolynomialDecay(0.25, 0.75, 0, 8, frequency=4))
    fit(model, [sparsity.UpdatePruningStep(), Watch()], epochs=2)
    assert counts == [11, 12]  # 0.75 - 0.5 / 8 = 0.6875 after 4 of 8 batches


def test_the_schedule_does_not_need_the_callback():
    model = pruned_model(sparsity.ConstantSparsity(0.5, 0))
    fit(model, [])
    assert zeros(model) == 0
    assert zeros(sparsity.strip_pruning(model)) == 8


def test_a_schedule_that_ends_after_training_is_reported():
    model = pruned_model(sparsity.PolynomialDecay(0.0, 0.75, 0, 100, frequency=4))
    message = r"Training ends at step 4.*ends at step 100.*instead of 0\.75"
    with pytest.warns(penjing.CompressionWarning, match=message):
        fit(model, [sparsity.UpdatePruningStep()])


@pytest.mark.once
def test_the_callback_is_harmless_elsewhere():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, use_bias=False)])
    model.compile("sgd", "mse")
    fit(model, [sparsity.UpdatePruningStep()])
    compressed = penjing.prune(model, penjing.ConstantSparsity(0.5))
    compressed.compile("sgd", "mse")
    fit(compressed, [sparsity.UpdatePruningStep()])
    assert zeros(penjing.strip(compressed)) == 8


def test_a_training_loop_of_ones_own_calls_them_as_the_peers_guide_does(tmp_path):
    model = pruned_model(sparsity.ConstantSparsity(0.5, 0))
    callbacks = [sparsity.UpdatePruningStep(), sparsity.PruningSummaries(tmp_path)]
    for callback in callbacks:
        callback.set_model(model)
    step_callback, log_callback = callbacks
    step_callback.on_train_begin()
    log_callback.on_epoch_begin(epoch=-1)
    step_callback.on_train_batch_begin(batch=-1)
    model(np.ones((2, 4), "float32"), training=True)
    step_callback.on_epoch_end(batch=-1)
    assert zeros(model) == 8
    keras.callbacks.CallbackList(callbacks, model=model).on_epoch_begin(0)


@pytest.mark.once
def test_a_model_that_is_not_compiled_is_logged(tmp_path):
    model = sparsity.prune_low_magnitude(
        keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    )
    callback = sparsity.PruningSummaries(tmp_path)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    (file,) = (tmp_path / "metrics").iterdir()
    assert {step for step, *_ in read_scalars(file)} == {0}


def test_sparsities_and_metrics_are_logged(tmp_path):
    model = pruned_model(sparsity.ConstantSparsity(0.5, 0))
    fit(model, [sparsity.PruningSummaries(str(tmp_path))], epochs=2)
    (metrics,) = (tmp_path / "metrics").iterdir()
    logged = [entry for entry in read_scalars(metrics) if "mask" in entry[1]]
    name = "prune_low_magnitude_dense/mask/sparsity"
    assert logged == [(0, name, 0.0), (4, name, 0.5), (8, name, 0.5)]
    thresholds = [e[2] for e in read_scalars(metrics) if e[1].endswith("/threshold")]
    assert thresholds[0] == 0.0
    assert thresholds[2] == float(ops.convert_to_numpy(model.layers[0].weights[2]))
    for folder in ("train", "validation"):
        (file,) = (tmp_path / folder).iterdir()
        assert [entry[:2] for entry in read_scalars(file)] == [
            (0, "epoch_loss"),
            (1, "epoch_loss"),
        ]


def test_batches_are_logged_where_asked_for(tmp_path):
    model = pruned_model(sparsity.ConstantSparsity(0.5, 2))
    fit(model, [sparsity.PruningSummaries(tmp_path, update_freq="batch")])
    (file,) = (tmp_path / "metrics").iterdir()
    logged = [entry for entry in read_scalars(file) if "mask" in entry[1]]
    assert [(step, value) for step, _, value in logged] == [
        (0, 0.0),
        (1, 0.0),
        (2, 0.5),
        (3, 0.5),
        (4, 0.5),
        (4, 0.5),
    ]


@pytest.mark.once
@pytest.mark.parametrize("log_dir", ["", None, 3])
def test_a_folder_is_needed(log_dir):
    with pytest.raises(ValueError, match="`log_dir` must be the path of a folder"):
        sparsity.PruningSummaries(log_dir)


@pytest.mark.once
@pytest.mark.parametrize("update_freq", ["step", 0, -2, 1.5])
def test_frequencies_are_checked(update_freq):
    with pytest.raises(ValueError, match="`update_freq` must be 'epoch', 'batch'"):
        sparsity.PruningSummaries("logs", update_freq=update_freq)


@pytest.mark.once
def test_arguments_of_tensorboard_are_taken():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsity.PruningSummaries("logs", profile_batch=0, write_graph=False)
    with pytest.warns(penjing.CompressionWarning, match="nothing for profile_batch"):
        sparsity.PruningSummaries("logs", profile_batch=2)
    with pytest.raises(TypeError, match="profil_batch"):
        sparsity.PruningSummaries("logs", profil_batch=0)
