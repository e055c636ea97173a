import keras
import pytest

from penjing.engine.schedules import (
    ConstantSparsity,
    CosineDecay,
    OneShot,
    PolynomialDecay,
)
from penjing.numerics.grids import Grid
from penjing.numerics.patterns import NM, Block, Unstructured
from penjing.pipeline import (
    ClusterRecipe,
    PatternRecipe,
    PruneRecipe,
    QuantizeAwareRecipe,
    ScheduleRecipe,
)
from penjing.pipeline.method_table import (
    METHODS,
    apply_prune,
    build_pattern,
    build_schedule,
)

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("recipe", "schedule"),
    [
        (
            ScheduleRecipe(final_sparsity=0.9, begin=0.1, end=0.5, power=2.0),
            PolynomialDecay(
                final_sparsity=0.9,
                begin_step=100,
                end_step=500,
                power=2.0,
                frequency=16,
            ),
        ),
        (
            ScheduleRecipe(
                kind="cosine", initial_sparsity=0.2, final_sparsity=0.9, frequency=7
            ),
            CosineDecay(
                initial_sparsity=0.2,
                final_sparsity=0.9,
                begin_step=0,
                end_step=500,
                frequency=7,
            ),
        ),
        (
            ScheduleRecipe(kind="constant", final_sparsity=0.9, begin=0.25, end=0.75),
            ConstantSparsity(0.9, begin_step=250, end_step=750, frequency=20),
        ),
        (
            ScheduleRecipe(kind="one_shot", final_sparsity=0.9, begin=0.25),
            OneShot(0.9, step=250),
        ),
    ],
)
def test_fractions_become_steps(recipe, schedule):
    assert build_schedule(recipe, 1000) == schedule


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", ["polynomial", "cosine", "constant", "one_shot"])
def test_the_shortest_training_reaches_the_final_sparsity(kind, steps):
    recipe = ScheduleRecipe(kind=kind, final_sparsity=0.9, begin=0.0, end=0.5)
    assert float(build_schedule(recipe, steps)(steps)) == pytest.approx(0.9)


def test_long_ramps_update_at_most_every_hundred_batches():
    recipe = ScheduleRecipe(final_sparsity=0.9)
    assert build_schedule(recipe, 1_000_000).frequency == 100


def test_patterns():
    assert build_pattern(PatternRecipe()) == Unstructured()
    assert build_pattern(PatternRecipe(kind="nm", n=1, m=4)) == NM(1, 4)
    block = PatternRecipe(kind="block", rows=4, columns=2, pooling="max")
    assert build_pattern(block) == Block(4, 2, pooling="max")


@pytest.mark.parametrize(
    ("keep", "final"), [(None, 0.9), (40, 0.75), (10, 0.9), (10_000, 0.5)]
)
def test_small_models_keep_more_of_their_weights(keep, final):
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(10)])
    recipe = PruneRecipe(
        schedule=ScheduleRecipe(initial_sparsity=0.5, final_sparsity=0.9),
        keep_at_least=keep,
    )
    pruned = apply_prune(model, recipe, training_steps=100)
    schedule = pruned.transforms[0].config.schedule
    assert schedule.final_sparsity == pytest.approx(final)


def test_a_cluster_recipe_says_what_its_config_does():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(10, name="one")])
    recipe = ClusterRecipe(
        num_clusters=4,
        initialization="linear",
        granularity="per_channel",
        preserve_sparsity=False,
        include=("one",),
        exclude=("*/bias",),
    )
    clustered = METHODS[ClusterRecipe](model, recipe, 100)
    config = clustered.transforms[0].config.get_config()
    assert (config.pop("seed"), config.pop("centroid_gradient")) == (0, "mean")
    for key, value in config.items():
        expected = getattr(recipe, key)
        assert value == (list(expected) if isinstance(expected, tuple) else expected)


def test_a_quantize_aware_recipe_says_what_its_config_does():
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(10, name="one"),
            keras.layers.Dense(9, name="two"),
        ]
    )
    recipe = QuantizeAwareRecipe(
        bits=4,
        levels=7,
        learn_scale=False,
        begin=0.75,
        levels_by_layer={"two": 3},
        exclude=("*/bias",),
    )
    quantized = METHODS[QuantizeAwareRecipe](model, recipe, 100)
    config = quantized.transforms[0].config
    assert config.weights == Grid(bits=4, levels=7)
    assert config.grids_by_layer == {"two": Grid(bits=4, levels=3)}
    assert (config.learn_scale, config.begin_step) == (False, 75)
    assert (config.include, config.exclude) == (None, ["*/bias"])
    last = QuantizeAwareRecipe(begin=0.999, include=("one",), granularity="per_tensor")
    config = METHODS[QuantizeAwareRecipe](model, last, 10).transforms[0].config
    assert (config.begin_step, config.include) == (9, ["one"])
    assert config.weights == Grid(granularity="per_tensor")


def test_clustered_models_get_one_scale_for_each_weight():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(10, name="one")])
    clustered = METHODS[ClusterRecipe](model, ClusterRecipe(num_clusters=4), 100)
    quantized = METHODS[QuantizeAwareRecipe](clustered, QuantizeAwareRecipe(), 100)
    assert quantized.transforms[1].config.weights.granularity == "per_tensor"
