"""Ways to compile and fit: each trains as the plain model does, then prunes."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from tests.engine.training_cases import (
    BACKEND,
    BATCH,
    STEPS_PER_EPOCH,
    arrays,
    assert_same_weights,
    check_sparsity,
    compiled,
    make_data,
    make_loss,
    make_model,
    ramp,
    run_script,
    to_array,
    zeros,
)
from tests.jax_cases import few_on_jax

import penjing

pytestmark = pytest.mark.optimized_on_jax

SGD, Adam, AdamW = keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mode:
    """One way to train; `atol` bounds the difference to the plain model's training."""

    optimizer: Callable[[], Any] = lambda: SGD(0.1)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    policy: str = "float32"
    atol: float = 1e-6

    @property
    def averages(self) -> bool:
        return bool(self.optimizer().use_ema)


MODES = {
    "momentum-clipped-by-value": Mode(
        optimizer=lambda: SGD(0.05, momentum=0.9, nesterov=True, clipvalue=0.05)
    ),
    "weight-decay-clipped-by-norm": Mode(
        optimizer=lambda: AdamW(0.01, weight_decay=0.1, clipnorm=0.1)
    ),
    "accumulation-clipped-globally": Mode(
        optimizer=lambda: Adam(0.01, gradient_accumulation_steps=2, global_clipnorm=0.1)
    ),
    "average": Mode(
        optimizer=lambda: Adam(
            0.01, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3
        )
    ),
    "eager": Mode(options={"run_eagerly": True}),
    "several-steps": Mode(options={"steps_per_execution": 3}),
    "compiled": Mode(options={"jit_compile": True}),
    "not-compiled": Mode(options={"jit_compile": False}),
    # Few bits of mantissa, so that a difference in fusion shows earlier.
    "bfloat16": Mode(policy="mixed_bfloat16", atol=2e-3),
    "float16": Mode(policy="mixed_float16", atol=1e-3),
}


NOT_ON = {
    ("compiled", "torch"): "in a test of its own, as it takes long for any model",
    ("several-steps", "torch"): "Keras has no steps_per_execution on PyTorch",
    ("not-compiled", "torch"): "this is the default on PyTorch",
    ("not-compiled", "tensorflow"): "this is the default on a CPU",
}


@pytest.fixture(
    params=few_on_jax(
        MODES,
        *("accumulation-clipped-globally", "average", "eager", "several-steps"),
        "float16",
    )
)
def mode(request):
    reason = NOT_ON.get((request.param, BACKEND))
    if reason:
        pytest.skip(reason)
    keras.config.set_dtype_policy(MODES[request.param].policy)
    return MODES[request.param]


def test_mode_trains_as_the_plain_model_then_prunes_exactly(mode):
    x, y = make_data()
    plain = make_model()
    pruned = penjing.prune(plain, ramp(begin_step=9, end_step=15, frequency=4))
    before = plain(x), pruned(x)
    assert before[0].dtype == before[1].dtype
    np.testing.assert_array_equal(to_array(before[0]), to_array(before[1]))
    for model in (plain, pruned):
        model.compile(mode.optimizer(), make_loss(), **mode.options)
    plain.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False)
    with pytest.warns(penjing.CompressionWarning, match="a sparsity of 0 will be"):
        pruned.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False)
    assert_same_weights(pruned, plain, mode.atol)
    assert set(zeros(pruned).values()) == {0.0}

    if mode.averages and BACKEND == "jax":
        # Keras shares buffers after averaging: no second `fit`, on any model.
        pruned.compile(mode.optimizer(), make_loss(), **mode.options)
    pruned.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False)
    assert int(to_array(pruned.step)) == 4 * STEPS_PER_EPOCH
    assert set(zeros(pruned).values()) == {0.75}
    check_sparsity(pruned)
    assert all(np.isfinite(value).all() for value in arrays(pruned))


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile needs PyTorch")
def test_torch_compile_trains_and_prunes(tmp_path):
    """In its own process: importing the compiler of PyTorch raises warnings.

    Without its last step, code in C++, which takes a minute.
    """
    script = """
    import functools
    import keras
    import numpy as np
    import penjing
    import torch

    torch.compile = functools.partial(torch.compile, backend="aot_eager")

    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    schedule = penjing.PolynomialDecay(
        final_sparsity=0.75, begin_step=0, end_step=7, frequency=3
    )
    model = penjing.prune(model, schedule)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=True)
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    model.fit(x, x[:, :4], batch_size=8, verbose=0)
    print(penjing.sparsity_report(penjing.strip(model)).rows[0].zeros)
    """
    assert run_script(textwrap.dedent(script), tmp_path) == "24\n"


def pair(schedule, **options):
    """A plain model and its pruned copy, compiled alike."""
    plain = make_model()
    pruned = penjing.prune(plain, schedule)
    return compiled(plain, **options), compiled(pruned, **options)


def assert_same_history(left, right):
    assert set(left.history) == set(right.history)
    for name, values in left.history.items():
        np.testing.assert_allclose(right.history[name], values, rtol=1e-4, err_msg=name)


def test_float16_scales_the_loss_as_plain_keras_does():
    keras.config.set_dtype_policy("mixed_float16")
    plain, pruned = pair(ramp())
    assert type(pruned.optimizer) is type(plain.optimizer)
    assert type(pruned.optimizer) is keras.optimizers.LossScaleOptimizer
    unscaled = compiled(penjing.prune(plain, ramp()), auto_scale_loss=False)
    assert isinstance(unscaled.optimizer, SGD)


def test_weights_of_samples_and_classes_count_as_in_the_plain_model():
    x, y = make_data()
    schedule = penjing.ConstantSparsity(0.0, begin_step=1, frequency=1)
    plain, pruned = pair(schedule, weighted_metrics=["accuracy"])
    options = {"batch_size": BATCH, "epochs": 2, "verbose": 0, "shuffle": False}
    for weights in (
        {"sample_weight": np.linspace(0, 2, len(x), dtype="float32")},
        {"class_weight": {0: 0.1, 1: 1.0, 2: 3.0, 3: 0.5}},
    ):
        assert_same_history(
            plain.fit(x, y, **options, **weights),
            pruned.fit(x, y, **options, **weights),
        )
    assert_same_weights(pruned, plain)


def two_heads():
    inputs = {"a": keras.Input((8,), name="a"), "b": keras.Input((8,), name="b")}
    hidden = keras.layers.Dense(8, activation="relu")(inputs["a"] + inputs["b"])
    outputs = {
        "label": keras.layers.Dense(4, name="label")(hidden),
        "size": keras.layers.Dense(1, name="size", activity_regularizer="l2")(hidden),
    }
    return keras.Model(inputs, outputs)


def distance(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred))


class Largest(keras.metrics.Metric):
    """A metric with state of its own."""

    def __init__(self, name="largest"):
        super().__init__(name=name)
        self.value = self.add_weight(shape=(), initializer="zeros", name="value")

    def update_state(self, y_true, y_pred, sample_weight=None):
        largest = keras.ops.max(keras.ops.abs(y_pred))
        self.value.assign(keras.ops.maximum(self.value, largest))

    def result(self):
        return self.value.value


def test_losses_and_metrics_by_output_are_those_of_the_plain_model():
    x, y = make_data()
    plain = two_heads()
    pruned = penjing.prune(plain, ramp(begin_step=5, end_step=8))
    for model in (plain, pruned):
        model.compile(
            SGD(0.05),
            loss={"label": make_loss(), "size": distance},
            loss_weights={"label": 1.0, "size": 0.3},
            metrics={"label": ["accuracy"], "size": [Largest(), distance]},
        )
    data = {"a": x, "b": x[::-1]}, {"label": y, "size": x[:, :1]}
    options = {"batch_size": BATCH, "verbose": 0, "shuffle": False}
    theirs = plain.fit(*data, validation_data=data, **options)
    with pytest.warns(penjing.CompressionWarning):
        ours = pruned.fit(*data, validation_data=data, **options)
    assert {"label_loss", "val_size_largest", "size_distance"} <= set(ours.history)
    assert_same_history(theirs, ours)
    pruned.fit(*data, **options)
    assert set(zeros(penjing.strip(pruned)).values()) == {0.75}


def test_a_list_of_outputs_is_known_by_its_names():
    x, y = make_data()
    heads = two_heads()
    heads = keras.Model(heads.inputs, [heads.output["size"], heads.output["label"]])
    pruned = penjing.prune(heads, ramp(begin_step=0, end_step=2))
    pruned.compile(
        SGD(0.05),
        loss={"label": make_loss(), "size": distance},
        metrics={"label": ["accuracy"]},
    )
    labels = {"label": y, "size": x[:, :1]}
    history = pruned.fit([x, x], labels, batch_size=BATCH, verbose=0).history
    assert {"label_loss", "size_loss", "label_accuracy"} <= set(history)


def test_learning_rate_schedule_callback_reaches_the_optimizer():
    x, y = make_data()
    model = compiled(penjing.prune(make_model(), ramp(end_step=4)))
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model.fit(x, y, BATCH, epochs=2, callbacks=halve, verbose=0)
    assert float(to_array(model.optimizer.learning_rate)) == pytest.approx(0.025)


def test_a_partial_last_batch_is_a_step():
    x, y = make_data()
    model = compiled(penjing.prune(make_model(), ramp(end_step=3)))
    model.fit(x[:40], y[:40], BATCH, verbose=0)
    assert int(to_array(model.step)) == 3
    check_sparsity(model)


def test_masks_are_hidden_from_weight_decay_and_clipping():
    """Only the inner weights train; step, masks and thresholds do not."""
    model = penjing.prune(make_model(), ramp())
    names = [variable.name for variable in model.trainable_variables]
    assert names == ["kernel", "bias", "kernel", "bias"]
    assert len(model.non_trainable_variables) == 5
