import gc
import os
import signal
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
from tests.pipeline import resumable

import penjing
from penjing.errors import CompressionError, RecipeError
from penjing.pipeline import TrainingRecipe
from penjing.pipeline.training import (
    build_loss,
    build_optimizer,
    compile_arguments,
    evaluation_metrics,
    metric_directions,
    train,
)
from penjing.pipeline.training_data import ArrayBatches, TrainingData
from penjing.progress import ignore_progress

pytestmark = pytest.mark.optimized_on_jax


def all_values(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable.value) for variable in variables]


@pytest.mark.parametrize("longest", [8, pytest.param(1000, marks=pytest.mark.once)])
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    longest, tmp_path, monkeypatch
):
    monkeypatch.setattr(resumable.training, "STEPS_BETWEEN_SAVES", longest)
    script = [sys.executable, "-m", "tests.pipeline.resumable"]
    command = [*script, str(tmp_path), "30", str(longest)]
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    events = []
    resumed = resumable.train(tmp_path, events.append)
    assert any(event.detail == "going on in epoch 2 of 3" for event in events)
    # The state was saved after batch 28 of 60, or after the first epoch; 30 is the
    # first message after both.
    assert min(event.done for event in events if event.total) == 30
    # Where an epoch is cut is part of what is computed: dropout is seeded there anew.
    values, _ = trained(longest)
    for left, right in zip(all_values(resumed), values, strict=True):
        np.testing.assert_array_equal(left, right)


def trained(longest):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumable.training, "STEPS_BETWEEN_SAVES", longest)
        events = []
        model = resumable.train(progress=events.append)
    return all_values(model), [(e.done, e.total, e.detail[:9]) for e in events]


def test_epochs_that_run_together_give_what_single_ones_give():
    expected, places = trained(20)
    assert places[-1] == (60, 60, "epoch 3/3")
    values, found = trained(1000)
    assert found == places
    for left, right in zip(values, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def compiled_model(loss="mse", metrics=None):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss, metrics=metrics)
    return model


def test_the_history_has_one_row_for_each_epoch():
    model = compiled_model(metrics=["mae"])
    data = (np.ones((10, 2), "float32"), np.ones((10, 1), "float32"))
    source = TrainingData(source=data, batch_size=4, seed=0)
    history = train(model, source, 3, progress=ignore_progress)
    assert [sorted(row) for row in history] == [["loss", "mae"]] * 3
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.once
def test_nothing_that_was_trained_on_is_kept():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    x = np.zeros((40, 3), "float32")
    arrays = weakref.ref(x)
    for _ in range(3):
        model.compile("sgd", "mse")
        data = TrainingData(source=(x, x[:, :1]), batch_size=10, seed=0)
        train(model, data, 1, progress=ignore_progress)
    del x, data
    gc.collect()
    assert arrays() is None
    kept = [each for each in gc.get_objects() if isinstance(each, ArrayBatches)]
    assert not any(each._order.size for each in kept)


def test_a_diverging_training_stops_with_the_epoch():
    model = compiled_model()
    data = (np.full((8, 2), np.nan, "float32"), np.ones((8, 1), "float32"))
    source = TrainingData(source=data, batch_size=4, seed=0)
    with pytest.raises(CompressionError, match="epoch 1: the loss is nan"):
        train(model, source, 2, progress=ignore_progress)


@pytest.mark.once
def test_the_cosine_rises_to_its_peak_and_falls_to_zero():
    recipe = TrainingRecipe(learning_rate=0.01, warmup=0.1)
    rate = build_optimizer(recipe, steps=100)._learning_rate
    values = [float(rate(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(values, [0, 0.005, 0.01, 0.005, 0], atol=1e-7)


@pytest.mark.once
def test_a_constant_rate_is_a_number():
    recipe = TrainingRecipe(
        optimizer="sgd", learning_rate=0.5, learning_rate_schedule="constant"
    )
    optimizer = build_optimizer(recipe, steps=100)
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert float(optimizer.learning_rate) == 0.5


@pytest.mark.once
def test_loss_and_metrics_come_from_the_compiled_model():
    arguments = compile_arguments(compiled_model("mae", ["mse"]), TrainingRecipe(), 10)
    assert arguments["loss"] == "mae"
    assert keras.tree.flatten(arguments["metrics"]) == ["mse"]


@pytest.mark.once
def test_loss_and_metrics_of_the_recipe_win():
    recipe = TrainingRecipe(loss="huber", metrics=("mae",))
    arguments = compile_arguments(compiled_model("mae", ["mse"]), recipe, 10)
    assert arguments["loss"].__name__ == "huber"
    assert arguments["metrics"] == ["mae"]


@pytest.mark.once
def test_an_uncompiled_model_without_a_loss_is_refused_with_the_fix():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="plain")
    with pytest.raises(RecipeError, match="'plain' is not compiled .* from_logits"):
        compile_arguments(model, TrainingRecipe(), 10)


@pytest.mark.once
def test_without_metrics_the_loss_is_measured():
    metric = evaluation_metrics(compiled_model("mae"), TrainingRecipe())
    metric.update_state(np.array([[1.0]]), np.array([[4.0]]))
    assert metric.name == "mae" and float(metric.result()) == 3.0
    metric = evaluation_metrics(
        compiled_model(keras.losses.MeanAbsoluteError()), TrainingRecipe()
    )
    metric.update_state(np.array([[1.0]]), np.array([[3.0]]))
    assert float(metric.result()) == 2.0


@pytest.mark.once
@pytest.mark.parametrize("name", ["cosine_similarity", "CosineSimilarity", "huber"])
def test_a_loss_without_metrics_falls_where_the_metric_of_its_name_rises(name):
    model, recipe = compiled_model(name), TrainingRecipe()
    x = np.float32([[1.0, 2.0], [3.0, -1.0]])
    found = penjing.evaluate(
        keras.Sequential([keras.Input((2,)), keras.layers.Identity()]),
        x,
        x + 0.1,
        metrics=evaluation_metrics(model, recipe),
    )
    loss = keras.ops.convert_to_numpy(build_loss(name)(x + 0.1, x)).mean()
    assert found == {name: pytest.approx(loss, rel=1e-5)}
    assert metric_directions(model, recipe, found) == {name: "lower"}


@pytest.mark.once
def test_a_loss_may_be_a_table_with_arguments():
    loss = build_loss({"name": "SparseCategoricalCrossentropy", "from_logits": True})
    assert loss.get_config()["from_logits"] is True


@pytest.mark.once
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("hubr", "no loss 'hubr'. Did you mean `huber`"),
        ({"name": "Hubber"}, "no loss 'Hubber'. Did you mean `Huber`"),
        ({"name": "Huber", "dleta": 1.0}, "Huber does not take"),
        ({"from_logits": True}, "no loss None"),
    ],
)
def test_a_wrong_loss_is_refused(loss, message):
    with pytest.raises(RecipeError, match=message):
        build_loss(loss)


@pytest.mark.once
def test_a_wrong_metric_is_refused_with_the_nearest():
    recipe = TrainingRecipe(metrics=("acuracy",))
    with pytest.raises(RecipeError, match="no metric 'acuracy'. Did you mean"):
        compile_arguments(compiled_model(), recipe, 10)
