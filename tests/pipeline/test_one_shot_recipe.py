"""Weights that fall at once: a recipe without training, and a start for one."""

import keras
import numpy as np
import pytest

import penjing
from penjing.errors import RecipeError
from penjing.one_shot.layer_error_report import bits_of_mean
from penjing.one_shot.layer_errors import measure_layer_errors
from penjing.pipeline import (
    FractionalSchedule,
    OneShotRecipe,
    PruningConfig,
    Recipe,
    TrainingRecipe,
    recipe_from_dict,
    run_recipe,
)

pytestmark = pytest.mark.once
ONCE = OneShotRecipe(sparsity=0.75, levels=15)
PRUNE = PruningConfig(FractionalSchedule(final_sparsity=0.75, end=0.5))


def net():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8,)), keras.layers.Dense(8), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model.compile("adam", "mse")
    return model


def data():
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    return x, x[:, :2], np.ones(64)


def test_nothing_is_trained_and_zeros_and_levels_are_there():
    model = net()
    recipe = Recipe(name="once", training=TrainingRecipe(epochs=0), methods=(ONCE,))
    assert recipe_from_dict(recipe.to_dict()) == recipe
    pruned = run_recipe(model, data(), recipe, progress=False)
    alone = penjing.prune_one_shot(
        model, data()[0], 0.75, weights=ONCE.grid, progress=False
    )
    for left, right in zip(pruned.weights, alone.weights, strict=True):
        np.testing.assert_array_equal(left, right)
    assert penjing.sparsity_report(pruned).sparsity == pytest.approx(0.75, abs=0.02)
    kernel = keras.ops.convert_to_numpy(pruned.layers[0].kernel)
    assert max(len(np.unique(column)) for column in kernel.T) <= 15


def test_bits_are_chosen_by_layer_for_a_mean():
    once = OneShotRecipe(sparsity=0.0, mean_bits=4.0)
    recipe = Recipe(name="bits", training=TrainingRecipe(epochs=0), methods=(once,))
    assert recipe_from_dict(recipe.to_dict()) == recipe
    model = net()
    model.layers[1].kernel.assign(100 * model.layers[1].kernel)  # by which bits count
    rounded = run_recipe(model, data(), recipe, progress=False)
    errors = measure_layer_errors(model, data()[0], levels=(2, 3, 4, 5, 6, 8))
    bits = bits_of_mean(errors, 4.0)
    assert len({*bits.values()}) == 2
    assert sum(own.size * bits[own.path] for own in errors.rows) <= 4 * 80 + 8 * 2
    for layer in rounded.layers:
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        most = max(len(np.unique(column)) for column in kernel.T)
        assert most <= 2 ** bits[layer.kernel.path]


def test_training_goes_on_from_it():
    recipe = Recipe(
        name="both",
        training=TrainingRecipe(epochs=2, batch_size=16),
        methods=(OneShotRecipe(sparsity=0.75), PRUNE),
    )
    trained = penjing.strip(run_recipe(net(), data(), recipe, progress=False))
    assert penjing.sparsity_report(trained).sparsity == pytest.approx(0.75, abs=0.02)


def test_what_cannot_be_is_refused():
    with pytest.raises(RecipeError, match="`levels` must be from 3 to 255, got 2"):
        OneShotRecipe(levels=2)
    with pytest.raises(RecipeError, match="`mean_bits` must be from 2 to 8, got 9"):
        OneShotRecipe(mean_bits=9.0)
    with pytest.raises(RecipeError, match="give one of them, got 15 and 4.0"):
        OneShotRecipe(levels=15, mean_bits=4.0)
    late = Recipe(name="late", methods=(PRUNE, ONCE))
    with pytest.raises(RecipeError, match="it comes first, or right behind"):
        run_recipe(net(), data(), late, progress=False)
