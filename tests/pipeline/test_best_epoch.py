"""Epochs judged by validation data: the best is kept, hopeless runs are stopped."""

import dataclasses

import keras
import numpy as np
import pytest

import penjing
from penjing.errors import DataError, RecipeError
from penjing.pipeline import (
    FractionalSchedule,
    PruningConfig,
    Recipe,
    TrainingRecipe,
    run_recipe,
    training,
)
from penjing.pipeline.best_epoch import EpochJudge, HopelessError, acts_in_full
from penjing.pipeline.recipe_run import cut_and_train
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_state import RunState
from penjing.progress import ignore_progress

TRAINING = TrainingRecipe(
    epochs=6,
    batch_size=16,
    learning_rate=0.03,
    learning_rate_schedule="constant",
    keep_best=True,
    validation_split=0.25,
)
PRUNE = PruningConfig(FractionalSchedule(final_sparsity=0.5, end=0.4))
RECIPE = Recipe(name="tiny", training=TRAINING, methods=(PRUNE,))


def build(metrics=("accuracy",)):
    set_global_seeds(3)
    layers = [
        keras.Input((6,)),
        keras.layers.Dense(8, activation="relu", name="hidden"),
        keras.layers.Dense(4, name="logits"),
    ]
    model = keras.Sequential(layers, name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=list(metrics))
    return model


def data(count=128, seed=0):
    x = np.random.default_rng(seed).normal(size=(count, 6)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32") + 2 * (x[:, 1] > 0).astype("int32")


def changed(**settings):
    return dataclasses.replace(
        RECIPE, training=dataclasses.replace(TRAINING, **settings)
    )


def values(model):
    return [keras.ops.convert_to_numpy(weight.value) for weight in model.weights]


def test_the_weights_of_the_best_epoch_are_kept_over_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    x, y = data(64, seed=1)
    held_out = x, (y + 1) % 4  # what is learned makes these scores worse
    state = RunState(tmp_path / "whole", "digest")
    whole = run_recipe(
        build(), data(), RECIPE, validation=held_out, state=state, progress=False
    )
    history = state.history
    judged = [row.get("val_accuracy") for row in history]
    assert judged[:2] == [None] * 2  # the sparsity is reached in the third
    assert judged[-1] < max(judged[2:])  # else nothing would be kept
    best = judged.index(max(judged[2:]))
    assert state.best.epoch == best
    score = penjing.evaluate(whole, *held_out, metrics=["accuracy"])["accuracy"]
    assert score == pytest.approx(max(judged[2:]))

    def stop(event):
        if event.done == 8 * (len(judged) - 1) + 1:
            raise TimeoutError

    monkeypatch.setattr(training, "_STEPS_BETWEEN_MESSAGES", 1)
    arguments = (data(), RECIPE)
    with pytest.raises(TimeoutError):
        state = RunState(tmp_path / "cut", "digest")
        run_recipe(build(), *arguments, validation=held_out, state=state, progress=stop)
    state = RunState(tmp_path / "cut", "digest")
    again = run_recipe(
        build(), *arguments, validation=held_out, state=state, progress=False
    )
    assert state.history == history and state.best.epoch == best
    for left, right in zip(values(again), values(whole), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.once
@pytest.mark.usefixtures("untraced")
def test_a_part_that_is_split_off_is_that_of_load_data():
    from penjing.data.data_sources import load_data

    x, y = data(120)
    parts = load_data(((x, y), (x, y)), seed=7)
    settings = TrainingRecipe(epochs=1, batch_size=64, validation_split=0.1)
    plan = Recipe(name="dense", training=settings, methods=())
    whole = run_recipe(build(), (x, y), plan, seed=7, progress=False)
    split = run_recipe(
        build(), parts.train, plan, validation=parts.validation, seed=7, progress=False
    )
    for left, right in zip(values(whole), values(split), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.once
@pytest.mark.usefixtures("untraced")
def test_a_hopeless_training_is_stopped_once_all_methods_act():
    prune = PruningConfig(FractionalSchedule(final_sparsity=0.5, end=0.6))
    settings = TrainingRecipe(epochs=3, batch_size=64)
    with pytest.raises(HopelessError, match="epoch 2 the validation accuracy is") as it:
        cut_and_train(
            build(),
            data(),
            Recipe(name="tiny", training=settings, methods=(prune,)),
            seed=0,
            state=None,
            progress=ignore_progress,
            validation=data(64, seed=1),
            lowest=1.1,
        )
    assert it.value.epochs == 2


@pytest.mark.once
def test_methods_act_in_full_once_quantization_has_begun_too():
    rounded = penjing.quantize_aware(
        penjing.prune(build(), penjing.OneShot(0.5, step=2)), begin_step=4
    )
    found = []
    for step in range(6):
        rounded.step.assign(step)
        found.append(acts_in_full(rounded))
    assert found == [False] * 4 + [True] * 2
    assert acts_in_full(build())


@pytest.mark.once
def test_lower_is_better_of_errors_and_no_number_is_the_worst():
    model = build(["sparse_categorical_crossentropy"])
    judge = EpochJudge(original=model, training=TRAINING, part=data(8), keeps=True)
    scores = iter([3.0, float("nan"), 2.0, 2.0, 5.0])
    judge._evaluate = lambda *_: {judge.metric: next(scores)}
    for epoch in range(5):
        model.layers[-1].bias.assign(np.full(4, epoch))
        judge(epoch, model)
    assert judge.restore(model).startswith("the weights are those of epoch 3, the best")
    np.testing.assert_array_equal(model.layers[-1].bias, np.full(4, 2.0))
    judge.lowest, judge._evaluate = 4.0, lambda *_: {judge.metric: 4.0}
    judge(5, model)
    judge._evaluate = lambda *_: {judge.metric: 4.5}
    with pytest.raises(HopelessError, match=r"4\.5, worse than 4\."):
        judge(6, model)


@pytest.mark.once
def test_what_cannot_be_judged_is_refused_before_any_training():
    with pytest.raises(RecipeError, match="`keep_best` chooses by validation data"):
        run_recipe(build(), data(), changed(validation_split=0.0), progress=False)
    loader = keras.utils.PyDataset()
    with pytest.raises(DataError, match="cannot split a loader.*as `validation`"):
        run_recipe(build(), loader, RECIPE, progress=False)
    x, y = data(1)
    with pytest.raises(DataError, match="1 example; at least 2"):
        run_recipe(build(), (x, y), RECIPE, progress=False)
    odd = keras.metrics.MeanMetricWrapper(
        keras.losses.sparse_categorical_crossentropy, name="weight_of_a_duck"
    )
    with pytest.raises(RecipeError, match="metric 'weight_of_a_duck' is better"):
        EpochJudge(original=build([odd]), training=TRAINING, part=data(8), keeps=True)
    arguments = {"original": build([odd, "accuracy"]), "part": data(8), "keeps": True}
    with pytest.raises(RecipeError, match="Did you mean 'accuracy'"):
        EpochJudge(training=changed(keep_best_by="acuracy").training, **arguments)
    by = changed(keep_best_by="accuracy").training
    assert EpochJudge(training=by, **arguments).metric == "accuracy"
    asked = changed(validation_from="test")
    with pytest.raises(DataError, match="there is no test part"):
        run_recipe(build(), data(), asked, progress=False)
