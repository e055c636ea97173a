import keras
import pytest

from penjing import ClusteringConfig, FractionalSchedule, PolynomialDecay, PruningConfig
from penjing.numerics.grids import Grid
from penjing.pipeline import QuantizeAwareRecipe
from penjing.pipeline.method_table import METHODS

pytestmark = pytest.mark.once


def apply(settings, model=None, steps=100):
    if model is None:
        model = keras.Sequential(
            [
                keras.Input((16,)),
                keras.layers.Dense(10, name="one"),
                keras.layers.Dense(9, name="two"),
            ]
        )
    return METHODS[type(settings)](model, settings, training_steps=steps)


def test_pruning_has_its_schedule_in_steps():
    settings = PruningConfig(
        FractionalSchedule(final_sparsity=0.9, frequency=4), scope="global", l1=1e-5
    )
    config = apply(settings).transforms[0].config
    schedule = PolynomialDecay(
        final_sparsity=0.9, begin_step=0, end_step=50, frequency=4
    )
    assert config == PruningConfig(schedule, scope="global", l1=1e-5)


@pytest.mark.parametrize(
    ("keep", "final"), [(None, 0.9), (40, 0.75), (10, 0.9), (10_000, 0.5)]
)
def test_small_models_keep_more_of_their_weights(keep, final):
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(10)])
    settings = PruningConfig(
        schedule=FractionalSchedule(initial_sparsity=0.5, final_sparsity=0.9),
        keep_at_least=keep,
    )
    schedule = apply(settings, model).transforms[0].config.schedule
    assert schedule.final_sparsity == pytest.approx(final)


def test_clustering_gets_its_settings():
    settings = ClusteringConfig(
        num_clusters=4,
        initialization="linear",
        granularity="per_channel",
        preserve_sparsity=False,
        include=("one",),
        exclude=("*/bias",),
    )
    assert apply(settings).transforms[0].config == settings


def test_a_quantize_aware_recipe_says_what_its_config_does():
    recipe = QuantizeAwareRecipe(
        bits=4,
        levels=7,
        learn_scale=False,
        begin=0.75,
        levels_by_layer={"two": 3},
        exclude=("*/bias",),
    )
    config = apply(recipe).transforms[0].config
    assert config.weights == Grid(bits=4, levels=7)
    assert config.grids_by_layer == {"two": Grid(bits=4, levels=3)}
    assert (config.learn_scale, config.begin_step) == (False, 75)
    assert (config.include, config.exclude) == (None, ("*/bias",))
    last = QuantizeAwareRecipe(begin=0.999, include=("one",), granularity="per_tensor")
    config = apply(last, steps=10).transforms[0].config
    assert (config.begin_step, config.include) == (9, ("one",))
    assert config.weights == Grid(granularity="per_tensor")


def test_clustered_models_get_one_scale_for_each_weight():
    clustered = apply(ClusteringConfig(num_clusters=4))
    quantized = apply(QuantizeAwareRecipe(), clustered)
    assert quantized.transforms[1].config.weights.granularity == "per_tensor"
