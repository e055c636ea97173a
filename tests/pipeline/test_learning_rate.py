"""The learning rate that a recipe leaves open."""

import dataclasses
import random

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras.optimizers import schedules
from tests.pipeline.channel_cases import data

import penjing
from penjing.errors import CompressionError, RecipeError
from penjing.models.model_files import load_keras_model
from penjing.pipeline import (
    FractionalSchedule,
    PruningConfig,
    Recipe,
    TrainingRecipe,
    load_recipe,
    run_recipe,
)
from penjing.pipeline.learning_rate import (
    choose_learning_rate,
    own_learning_rate,
    rate_of_sweep,
)
from penjing.pipeline.runs.random_state import set_global_seeds
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training import build_optimizer
from penjing.pipeline.training_data import TrainingData
from penjing.progress import ignore_progress

once = pytest.mark.once
RATES = np.geomspace(1e-5, 1, 100)
TRAINING = TrainingRecipe(
    epochs=3,
    batch_size=32,
    learning_rate="auto",
    loss={"name": "SparseCategoricalCrossentropy", "from_logits": True},
    metrics=("accuracy",),
)


def noise(sigma, seed=0):
    return np.random.default_rng(seed).normal(0, sigma, 100)


@once
def test_a_loss_that_falls_is_followed_to_where_it_falls_most_steeply():
    # From 2.3 to 0.8, half of it at 3e-3; far from where it breaks out.
    losses = 0.8 + 1.5 / (1 + (RATES / 3e-3) ** 2) + noise(0.05)
    losses[RATES > 0.3] = 50
    assert 1.5e-3 < rate_of_sweep(RATES, losses) < 6e-3


@once
def test_it_is_never_more_than_a_tenth_of_where_the_loss_breaks_out():
    losses = 0.8 + 1.5 / (1 + (RATES / 3e-3) ** 2)
    losses[RATES > 5e-3] = 50  # as soon as it falls
    assert rate_of_sweep(RATES, losses) == pytest.approx(5e-4, rel=0.5)


@once
@pytest.mark.parametrize("ruin", [3.0, np.inf, np.nan])
def test_a_trained_model_takes_a_tenth_of_where_it_is_ruined(ruin):
    losses = 0.25 + noise(0.05)
    losses[RATES > 1e-2] = ruin
    assert rate_of_sweep(RATES, losses) == pytest.approx(1e-3, rel=0.5)
    slowly = 0.25 + noise(0.05) + 100 * RATES  # twice what batches differ, at 1e-3
    assert 4e-5 < rate_of_sweep(RATES, slowly) < 2e-4


@once
def test_a_bump_is_no_break_out_and_without_any_the_rate_is_a_usual_one():
    flat = 0.25 + noise(0.05)
    assert rate_of_sweep(RATES, flat) == 1e-3
    flat[40] = 2.0
    assert rate_of_sweep(RATES, flat) == 1e-3
    at_once = np.full(100, 9.0)
    at_once[:3] = 1.0
    assert rate_of_sweep(RATES, at_once) == 1e-5
    assert rate_of_sweep(RATES[:2], [1.0, 50.0]) == 1e-5
    assert rate_of_sweep(RATES[:1], [1.0]) == 1e-5


@once
@given(
    st.integers(0, 999),
    st.floats(0.01, 1),
    st.floats(0.01, 100),
    st.floats(-3, -0.5),
)
def test_it_is_within_the_sweep_and_knows_no_unit(seed, sigma, unit, ruin):
    losses = 1 + noise(sigma, seed)
    losses[np.log10(RATES) > ruin] += 1e4
    rate = rate_of_sweep(RATES, losses)
    assert 1e-5 <= rate <= 10 ** (ruin - 0.9)
    assert rate_of_sweep(RATES, unit * losses) == pytest.approx(rate)


def compiled(optimizer):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


@once
@pytest.mark.parametrize(
    ("optimizer", "wanted", "own"),
    [
        (keras.optimizers.Adam(2e-4), "adam", 2e-4),
        (keras.optimizers.AdamW(2e-4), "adam", 2e-4),
        (keras.optimizers.SGD(0.1), "sgd", 0.1),
        (keras.optimizers.SGD(0.1), "adam", None),  # it would ruin the model
        (keras.optimizers.Adam(1e-8), "adam", None),  # as ReduceLROnPlateau leaves it
        (
            keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(3e-3)),
            "adam",
            3e-3,
        ),
        (keras.optimizers.Adam(schedules.CosineDecay(2e-3, 9)), "adam", 2e-3),
        (
            keras.optimizers.Adam(
                schedules.CosineDecay(0.0, 9, warmup_target=4e-3, warmup_steps=5)
            ),
            "adam",
            4e-3,
        ),
        (
            keras.optimizers.Adam(schedules.PiecewiseConstantDecay([5], [1e-2, 1e-4])),
            "adam",
            1e-2,
        ),
    ],
)
def test_the_rate_of_the_model_itself(optimizer, wanted, own, tmp_path):
    model = compiled(optimizer)
    assert own_learning_rate(model, wanted) == pytest.approx(own)
    model.save(tmp_path / "model.keras")
    loaded = load_keras_model(tmp_path / "model.keras")
    assert own_learning_rate(loaded, wanted) == pytest.approx(own)
    plain = load_keras_model(tmp_path / "model.keras", compile=False)
    assert own_learning_rate(plain, wanted) is None


class OwnSchedule(schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1 / (step + 1)


@once
def test_a_schedule_that_does_not_say_where_it_begins_is_no_rate():
    model = compiled(keras.optimizers.Adam(OwnSchedule()))
    assert own_learning_rate(model, "adam") is None


def pretrained():
    """A frozen base with batch normalization, a small head: not compiled."""
    set_global_seeds(3)
    base = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu", name="inner"),
            keras.layers.BatchNormalization(name="norm"),
        ],
        name="base",
    )
    base.trainable = False
    head = [keras.layers.Dropout(0.2), keras.layers.Dense(4, name="logits")]
    return keras.Sequential([keras.Input((6,)), base, *head], name="net")


def values(model):
    return [keras.ops.convert_to_numpy(weight.value) for weight in model.weights]


def chosen(model, arrays, **settings):
    source = TrainingData(source=arrays, batch_size=32, seed=4)
    training = dataclasses.replace(TRAINING, **settings)
    return choose_learning_rate(model, source, training, progress=ignore_progress)


def test_a_range_test_leaves_the_model_and_chance_as_they_are():
    model, events = pretrained(), []
    before = values(model)
    random.seed(1)
    np.random.seed(1)
    state, drawn = random.getstate(), np.random.get_state()[1].copy()
    source = TrainingData(source=data(), batch_size=32, seed=4)
    first = choose_learning_rate(model, source, TRAINING, progress=events.append)
    for left, right in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(left, right)
    assert random.getstate() == state
    np.testing.assert_array_equal(np.random.get_state()[1], drawn)
    assert not model.compiled
    assert 1e-4 < first.value <= 0.1
    assert first.source == f"by a range test of {events[-1].done} batches"
    np.random.seed(2)
    assert chosen(model, data()) == first


@once
def test_a_few_examples_and_a_loader_give_a_rate_too():
    x, y = data()
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    assert 1e-5 <= chosen(model, (x[:10], y[:10])).value <= 0.1

    class Loader(keras.utils.PyDataset):
        def __len__(self):
            return 7

        def __getitem__(self, index):
            return x[index * 20 : index * 20 + 20], y[index * 20 : index * 20 + 20]

    assert 1e-4 < chosen(model, Loader()).value <= 0.1


@once
def test_what_has_no_rate_says_so():
    x, y = data()
    with pytest.raises(CompressionError, match="its loss is nan at the smallest one"):
        chosen(pretrained(), (np.full_like(x, np.nan), y))
    frozen = pretrained()
    frozen.trainable = False
    assert "nothing of the model is trained" in chosen(frozen, (x, y)).source
    with pytest.raises(RecipeError, match='"auto" is for recipes that are run'):
        build_optimizer(TRAINING, 10)


def test_a_pretrained_model_trains_and_its_frozen_layers_stay(tmp_path):
    prune = PruningConfig(FractionalSchedule(final_sparsity=0.5))
    plan = Recipe(name="tiny", training=TRAINING, methods=(prune,))
    model = pretrained()
    state = RunState(tmp_path, "digest")
    trained = run_recipe(model, data(), plan, state=state, progress=False)
    base, small = model.get_layer("base"), penjing.strip(trained).get_layer("base")
    for left, right in zip(values(small), values(base), strict=True):
        np.testing.assert_array_equal(left, right)
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    # The rate is part of the state: the same run does not look for it again.
    heard = []
    run_recipe(model, data(), plan, state=state, progress=heard.append)
    assert not [event for event in heard if event.stage.startswith("Finding the l")]
    said = [event.stage for event in heard if event.notice]
    assert said[0].startswith("Note: the peak of the learning rate is 0.")


@once
def test_an_open_rate_is_written_and_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('methods = []\n[training]\nlearning_rate = "auto"\n')
    assert load_recipe(path).training.learning_rate == "auto"
    assert load_recipe(path).to_dict()["training"]["learning_rate"] == "auto"
    path.write_text('methods = []\n[training]\nlearning_rate = "atuo"\n')
    with pytest.raises(RecipeError, match="is 'atuo'. Did you mean `auto`"):
        load_recipe(path)
    path.write_text("methods = []\n[training]\nlearning_rate = true\n")
    with pytest.raises(RecipeError, match="`learning_rate` must be a number, got True"):
        load_recipe(path)
