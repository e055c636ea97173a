"""What `fit` writes back, and what it says of schedules that training cuts off."""

from __future__ import annotations

import keras
import pytest
from tests.engine.training_cases import (
    BATCH,
    check_sparsity,
    compiled,
    make_data,
    make_model,
    ramp,
    to_array,
    zeros,
)

import penjing

SGD = keras.optimizers.SGD


class Watch(keras.callbacks.Callback):
    """Zeros of `model.weights` at the end of each epoch, as a user would see them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(set(zeros(self.model).values()))


@pytest.mark.parametrize("form", ["single", "CallbackList"])
def test_weights_show_zeros_after_every_epoch_however_callbacks_are_passed(form):
    x, y = make_data()
    model = compiled(
        penjing.prune(make_model(), ramp(end_step=6, frequency=2)),
        optimizer=SGD(0.1, momentum=0.9),
    )
    watch = Watch()
    callbacks = {
        "single": watch,
        "CallbackList": keras.callbacks.CallbackList(
            [watch], add_history=True, model=model, epochs=2, steps=4
        ),
    }[form]
    model.fit(x, y, BATCH, epochs=2, callbacks=callbacks, verbose=0)
    assert watch.seen == [{94 / 128}, {0.75}]  # 0.75 - 0.5 / 27 after step 4
    assert watch.model is model


def test_callbacks_in_a_list_by_position_are_taken_as_by_plain_keras():
    x, y = make_data()
    watch = Watch()
    model = compiled(penjing.prune(make_model(), ramp(end_step=4)))
    model.fit(x, y, BATCH, 1, 0, [watch])
    assert watch.seen == [{0.75}]


def climbing(end_step):
    """A model whose loss climbs, so that its first epoch stays the best."""
    pruned = penjing.prune(make_model(), ramp(end_step=end_step))
    stop = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    return compiled(pruned, optimizer=SGD(-0.5)), stop


def test_best_weights_are_restored_with_their_masks():
    x, y = make_data()
    model, stop = climbing(end_step=4)
    history = model.fit(x, y, BATCH, epochs=5, callbacks=[stop], verbose=0)
    assert len(history.epoch) == 3
    assert int(to_array(model.step)) == 4
    assert set(zeros(model).values()) == {0.75}
    check_sparsity(model)


def test_training_that_is_too_short_says_the_sparsity_it_will_reach():
    x, y = make_data()
    model = compiled(penjing.prune(make_model(), ramp(end_step=9, frequency=3)))
    message = (
        r"step 8 \(2 epochs of 4 steps\).*ends at step 9.*sparsity of 0\.731 "
        r"will be reached instead of 0\.75"
    )
    with pytest.warns(penjing.CompressionWarning, match=message):
        model.fit(x, y, BATCH, epochs=2, verbose=0)
    reached = zeros(penjing.strip(model)).values()
    assert max(reached) == pytest.approx(0.731, abs=0.5 / 64)
    model.fit(x, y, BATCH, epochs=1, verbose=0)  # steps 9 to 12: no warning
    check_sparsity(model)


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_data_of_unknown_length_is_reported_when_it_was_too_short():
    def batches(count):
        x, y = make_data()
        for i in range(count):
            start = i * BATCH % len(x)
            yield x[start : start + BATCH], y[start : start + BATCH]

    model = compiled(penjing.prune(make_model(), ramp(end_step=8)))
    message = r"Training ended at step 6, but .* ends at step 8"
    with pytest.warns(penjing.CompressionWarning, match=message):
        model.fit(batches(6), verbose=0, shuffle=False)
    model.fit(batches(2), verbose=0, shuffle=False)
    assert int(to_array(model.step)) == 8
    check_sparsity(model)


def test_training_that_a_callback_stops_too_early_is_reported():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    x, y = make_data()
    model = compiled(penjing.prune(make_model(), ramp(end_step=4)))
    with pytest.warns(penjing.CompressionWarning, match="ended at step 1, but"):
        model.fit(x, y, BATCH, callbacks=[Stop()], verbose=0)


def test_sparsity_that_a_callback_takes_back_is_reported():
    x, y = make_data()
    model, stop = climbing(end_step=7)
    message = r"restored the weights of step 4, but .* instead of 0\.75\. Let it start"
    with pytest.warns(penjing.CompressionWarning, match=message):
        model.fit(x, y, BATCH, epochs=5, callbacks=[stop], verbose=0)
