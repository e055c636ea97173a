"""Files in mid-schedule: what is loaded or restarted goes on as if nothing happened."""

from __future__ import annotations

import copy
import io
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest
from tests.engine.training_cases import (
    BACKEND,
    BATCH,
    arrays,
    check_sparsity,
    make_data,
    make_loss,
    make_model,
    ramp,
    run_script,
    to_array,
    zeros,
)

import penjing


def compressed_model():
    """Fresh, but the same at every call; its schedule ends in the fourth epoch."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    pruned = penjing.prune(make_model(), ramp(begin_step=2, end_step=14, frequency=3))
    pruned.compile(keras.optimizers.Adam(0.01), make_loss())
    return pruned


def fit(model, epochs, first=0, **options):
    x, y = make_data()
    return model.fit(
        *(x, y, BATCH),
        **{"shuffle": False, "verbose": 0, "initial_epoch": first},
        epochs=epochs,
        **options,
    )


def everything(model):
    """Trainable weights, step, masks, thresholds and optimizer state."""
    variables = [*model.variables, *model.optimizer.variables]
    return [to_array(variable) for variable in variables]


def assert_same_state(left, right):
    for mine, yours in zip(everything(left), everything(right), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def uninterrupted():
    """Trained once for all tests, none of which changes it."""
    model = compressed_model()
    fit(model, 4)
    assert set(zeros(model).values()) == {0.75}
    return model


@pytest.mark.filterwarnings("ignore::penjing.CompressionWarning")
def test_saved_in_mid_schedule_goes_on_as_if_uninterrupted(tmp_path, uninterrupted):
    model = compressed_model()
    fit(model, 2)
    model.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert type(loaded) is penjing.CompressionModel
    assert int(to_array(loaded.step)) == 8
    assert_same_state(loaded, model)
    x, _ = make_data()
    np.testing.assert_allclose(to_array(loaded(x)), to_array(model(x)), atol=1e-6)
    fit(loaded, 4, first=2)
    assert_same_state(loaded, uninterrupted)
    check_sparsity(loaded)


def write_masks_as_floats(path):
    """Make the file what earlier versions wrote: masks in the type of the weights."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append(name))
        masks = [n for n in names if getattr(file[n], "dtype", None) == np.bool_]
        for name in masks:
            values = file[name][()].astype("float32")
            del file[name]
            file[name] = values
    parts["model.weights.h5"] = content.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return masks


@pytest.mark.filterwarnings("ignore::penjing.CompressionWarning")
def test_files_with_masks_of_floats_go_on(tmp_path, uninterrupted):
    model = compressed_model()
    fit(model, 2)
    model.save(tmp_path / "old.keras")
    assert len(write_masks_as_floats(tmp_path / "old.keras")) == 2
    loaded = keras.models.load_model(tmp_path / "old.keras")
    assert_same_state(loaded, model)
    assert {mask.dtype for mask in loaded.transforms[0].masks} == {"bool"}
    fit(loaded, 4, first=2)
    assert_same_state(loaded, uninterrupted)


@pytest.mark.filterwarnings("ignore::penjing.CompressionWarning")
def test_saved_between_two_batches_keeps_masks_and_raw_weights(tmp_path):
    x, y = make_data()
    model = compressed_model()
    for start in range(0, 48, BATCH):
        model.train_on_batch(x[start : start + BATCH], y[start : start + BATCH])
    model.save(tmp_path / "third_batch.keras")
    loaded = keras.models.load_model(tmp_path / "third_batch.keras")
    assert_same_state(loaded, model)
    ours, theirs = penjing.strip(loaded), penjing.strip(model)
    for mine, yours in zip(arrays(ours), arrays(theirs), strict=True):
        np.testing.assert_array_equal(mine, yours)


@pytest.mark.filterwarnings("ignore::penjing.CompressionWarning")
def test_weights_file_goes_on_in_a_fresh_model(tmp_path, uninterrupted):
    model = compressed_model()
    fit(model, 2)
    model.save_weights(tmp_path / "half.weights.h5")
    fresh = compressed_model()
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "half.weights.h5")
    fit(fresh, 4, first=2)
    assert_same_state(fresh, uninterrupted)


class Interrupt(keras.callbacks.Callback):
    """Raises at the end of one batch, counted from 1 over all epochs."""

    def __init__(self, batch):
        super().__init__()
        self.batches_left = batch

    def on_train_batch_end(self, batch, logs=None):
        self.batches_left -= 1
        if self.batches_left == 0:
            raise InterruptedError("as if killed")


@pytest.mark.filterwarnings("ignore::penjing.CompressionWarning")
@pytest.mark.parametrize("save_freq", ["epoch", 4])
def test_restarted_training_equals_an_uninterrupted_one(
    tmp_path, save_freq, uninterrupted
):
    folder = str(tmp_path / "backup")
    first = compressed_model()
    backup = keras.callbacks.BackupAndRestore(folder, save_freq=save_freq)
    with pytest.raises(InterruptedError):
        fit(first, 4, callbacks=[backup, Interrupt(10)])
    second = compressed_model()
    backup = keras.callbacks.BackupAndRestore(folder, save_freq=save_freq)
    seen = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(epoch)
    )
    fit(second, 4, callbacks=[backup, count])
    if save_freq == "epoch":
        assert seen == [2, 3]
        assert_same_state(second, uninterrupted)
    else:
        # Keras restores the weights of batch 8, but repeats the epoch it ended.
        assert seen == [1, 2, 3]
        assert int(to_array(second.step)) == 8 + 12
    check_sparsity(second)


@pytest.mark.filterwarnings("ignore::penjing.CompressionWarning")
def test_checkpoints_hold_masks_and_step(tmp_path):
    model = compressed_model()
    path = str(tmp_path / "epoch-{epoch}.keras")
    fit(model, 4, callbacks=keras.callbacks.ModelCheckpoint(path))
    for epoch in (1, 2, 3, 4):
        loaded = keras.models.load_model(path.format(epoch=epoch))
        assert int(to_array(loaded.step)) == 4 * epoch
        stripped = penjing.strip(loaded)
        assert zeros(stripped) == zeros(loaded)  # written back before it was saved
    assert_same_state(loaded, model)


def test_stripped_model_loads_without_penjing(tmp_path, uninterrupted):
    x, _ = make_data()
    stripped = penjing.strip(uninterrupted)
    stripped.save(tmp_path / "small.keras")
    with keras.saving.custom_object_scope({}):
        loaded = keras.models.load_model(tmp_path / "small.keras")
    assert type(loaded) is keras.Sequential
    np.testing.assert_array_equal(to_array(loaded(x)), to_array(stripped(x)))
    assert set(zeros(loaded).values()) == {0.75}
    assert "penjing" not in str(loaded.get_config())


@pytest.mark.once
def test_stripped_model_loads_in_a_process_without_penjing(tmp_path, uninterrupted):
    penjing.strip(uninterrupted).save(tmp_path / "small.keras")
    output = run_script(
        "import keras, sys\n"
        f"model = keras.models.load_model({str(tmp_path / 'small.keras')!r})\n"
        "assert 'penjing' not in sys.modules\n"
        "print([float((w == 0).mean()) for w in model.get_weights() if w.ndim > 1])\n",
        tmp_path,
    )
    assert output.strip() == "[0.75, 0.75]"


@pytest.mark.filterwarnings("ignore::penjing.CompressionWarning")
def test_copies_of_a_model_in_training_are_independent():
    model = compressed_model()
    fit(model, 2)
    x, _ = make_data()
    before = everything(model)
    unpickled = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(to_array(unpickled(x)), to_array(model(x)), atol=1e-6)
    twin = copy.deepcopy(model)
    fit(twin, 4, first=2)
    assert int(to_array(twin.step)) == 16
    check_sparsity(twin)
    for old, new in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.filterwarnings("ignore::penjing.CompressionWarning")
def test_clone_starts_anew():
    model = compressed_model()
    fit(model, 2)
    twin = keras.models.clone_model(model)
    assert int(to_array(twin.step)) == 0
    assert len(twin.weights) == len(model.weights)
    twin.set_weights(model.get_weights())
    x, _ = make_data()
    np.testing.assert_allclose(to_array(twin(x)), to_array(model(x)), atol=1e-6)


def test_summary_names_the_inner_model_and_counts_its_weights(uninterrupted):
    lines = []
    uninterrupted.summary(print_fn=lines.append, expand_nested=True)
    text = "\n".join(lines)
    assert uninterrupted.model.name in text
    assert "hidden" in text


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a SavedModel needs TensorFlow")
def test_exported_saved_model_computes_what_the_model_does(tmp_path, uninterrupted):
    import tensorflow as tf

    uninterrupted.export(str(tmp_path / "saved_model"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    x, _ = make_data()
    np.testing.assert_allclose(
        served.serve(x).numpy(), to_array(uninterrupted(x)), atol=1e-6
    )
