"""Training without `fit`: one batch at a time, and in loops of each backend."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.engine.training_cases import (
    BACKEND,
    BATCH,
    STEPS_PER_EPOCH,
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


def batches(epochs):
    x, y = make_data()
    for _ in range(epochs):
        for start in range(0, len(x), BATCH):
            yield x[start : start + BATCH], y[start : start + BATCH]


def make_optimizer():
    return keras.optimizers.SGD(0.05, momentum=0.9)


def train_on_batches(model, epochs):
    if not model.compiled:
        model.compile(make_optimizer(), make_loss(), metrics=["accuracy"])
    for x, y in batches(epochs):
        model.train_on_batch(x, y)


def train_with_gradient_tape(model, epochs):
    import tensorflow as tf

    loss_function = make_loss()
    optimizer = model.__dict__.setdefault("_test_optimizer", make_optimizer())
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_function(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    for x, y in batches(epochs):
        step(tf.constant(x), tf.constant(y))


def train_with_value_and_grad(model, epochs):
    import jax

    loss_function = make_loss()
    optimizer = model.__dict__.setdefault("_test_optimizer", make_optimizer())
    optimizer.build(model.trainable_variables)

    def loss_and_state(trainable, state, x, y):
        outputs, state = model.stateless_call(trainable, state, x, training=True)
        return loss_function(y, outputs), state

    @jax.jit
    def step(trainable, state, slots, x, y):
        differentiate = jax.value_and_grad(loss_and_state, has_aux=True)
        (_, state), gradients = differentiate(trainable, state, x, y)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return trainable, state, slots

    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        optimizer.variables,
    )
    values = [[variable.value for variable in group] for group in variables]
    for x, y in batches(epochs):
        values = step(*values, x, y)
    for group, final in zip(variables, values, strict=True):
        for variable, value in zip(group, final, strict=True):
            variable.assign(value)


def train_with_backward(model, epochs):
    import torch

    loss_function = make_loss()
    optimizer = model.__dict__.setdefault(
        "_test_optimizer",
        torch.optim.SGD(
            [variable.value for variable in model.trainable_variables],
            lr=0.05,
            momentum=0.9,
        ),
    )
    for x, y in batches(epochs):
        optimizer.zero_grad()
        loss = loss_function(torch.tensor(y), model(torch.tensor(x), training=True))
        loss.backward()
        optimizer.step()


LOOPS = {
    "tensorflow": train_with_gradient_tape,
    "jax": train_with_value_and_grad,
    "torch": train_with_backward,
}


@pytest.mark.parametrize("train", [train_on_batches, LOOPS[BACKEND]])
def test_loop_trains_as_the_plain_model_then_prunes_exactly(train):
    plain = make_model()
    pruned = penjing.prune(plain, ramp(begin_step=9, end_step=15, frequency=4))
    train(plain, 2)
    train(pruned, 2)
    assert_same_weights(pruned, plain)
    assert set(zeros(penjing.strip(pruned)).values()) == {0.0}

    train(pruned, 2)
    assert int(to_array(pruned.step)) == 4 * STEPS_PER_EPOCH
    x, _ = make_data()
    before = to_array(pruned(x))
    stripped = check_sparsity(pruned)
    # Momentum moves masked weights; they are zero in outputs, and once written back.
    assert min(zeros(pruned).values()) < 0.75
    pruned.write_back()
    assert zeros(pruned) == zeros(stripped)
    np.testing.assert_array_equal(to_array(pruned(x)), before)


def test_strip_is_exact_after_every_batch():
    schedule = ramp(begin_step=0, end_step=7, frequency=3)
    pruned = penjing.prune(make_model(), schedule)
    pruned.compile(make_optimizer(), make_loss())
    reached = []
    for x, y in batches(2):
        pruned.train_on_batch(x, y)
        hidden, _ = zeros(penjing.strip(pruned)).values()
        reached.append(hidden)
    updates = [1, 1, 3, 3, 3, 6, 7, 7]  # the step of the last mask, batch by batch
    expected = [1 - round(128 * (1 - schedule(step))) / 128 for step in updates]
    assert reached == expected
    assert reached[-1] == 0.75


def test_evaluation_and_prediction_leave_step_and_masks_alone():
    x, y = make_data()
    pruned = penjing.prune(make_model(), ramp())
    train_on_batches(pruned, 1)
    before = [to_array(variable) for variable in pruned.variables]
    pruned.evaluate(x, y, BATCH, verbose=0)
    pruned.test_on_batch(x, y)
    pruned.predict(x, BATCH, verbose=0)
    pruned.predict_on_batch(x)
    pruned(x), pruned(x, training=False)
    after = [to_array(variable) for variable in pruned.variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_forward_pass_in_training_mode_counts_a_step():
    pruned = penjing.prune(make_model(), penjing.OneShot(0.5, step=2))
    x, _ = make_data()
    pruned(x, training=True)
    assert set(zeros(penjing.strip(pruned)).values()) == {0.0}
    pruned(x, training=True)
    assert set(zeros(penjing.strip(pruned)).values()) == {0.5}


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX compiles a condition by itself")
def test_uncompiled_step_compiles_nothing_between_mask_updates():
    import jax

    x, _ = make_data()
    pruned = penjing.prune(make_model(), penjing.OneShot(0.5, step=1))
    pruned(x, training=True), pruned(x, training=True)
    compilations = []

    def listen(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            compilations.append(details)

    jax.monitoring.register_event_duration_secs_listener(listen)
    pruned(x, training=True)
    assert compilations == []
    keras.ops.add(np.ones(17), 1)  # a shape of its own, so that the listener is seen
    assert compilations
    jax.monitoring.clear_event_listeners()
